// cnitool calls plugins through libcni, the Go library of most runtimes. Debian ships that library
// without its own tool of this name; this one takes the same arguments and variables, and a few more.
//
//	cnitool add|check|del NETWORK NETNS
//	cnitool validate NETWORK
//
// NETCONFPATH is the directory of configuration lists; CNI_PATH, CNI_CONTAINERID, CNI_IFNAME and
// CNI_ARGS are passed on; CAP_ARGS is a JSON object of runtime capabilities, CNI_CACHE_DIR the
// library's own directory.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containernetworking/cni/libcni"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) < 2 {
		return fmt.Errorf("usage: cnitool add|check|del|validate NETWORK [NETNS]")
	}
	list, err := libcni.LoadConfList(os.Getenv("NETCONFPATH"), arguments[1])
	if err != nil {
		return err
	}
	path := filepath.SplitList(os.Getenv("CNI_PATH"))
	library := libcni.NewCNIConfigWithCacheDir(path, os.Getenv("CNI_CACHE_DIR"), nil)
	ctx := context.Background()
	if arguments[0] == "validate" {
		capabilities, err := library.ValidateNetworkList(ctx, list)
		if err == nil {
			fmt.Println(strings.Join(capabilities, " "))
		}
		return err
	}
	attachment, err := attachmentOf(arguments[2:])
	if err != nil {
		return err
	}
	switch arguments[0] {
	case "add":
		result, err := library.AddNetworkList(ctx, list, attachment)
		if err != nil {
			return err
		}
		return result.Print()
	case "check":
		return library.CheckNetworkList(ctx, list, attachment)
	case "del":
		return library.DelNetworkList(ctx, list, attachment)
	}
	return fmt.Errorf("unknown command %q", arguments[0])
}

func attachmentOf(arguments []string) (*libcni.RuntimeConf, error) {
	if len(arguments) != 1 {
		return nil, fmt.Errorf("the path of one network namespace is needed")
	}
	conf := &libcni.RuntimeConf{
		ContainerID: os.Getenv("CNI_CONTAINERID"),
		NetNS:       arguments[0],
		IfName:      os.Getenv("CNI_IFNAME"),
	}
	if given := os.Getenv("CAP_ARGS"); given != "" {
		if err := json.Unmarshal([]byte(given), &conf.CapabilityArgs); err != nil {
			return nil, fmt.Errorf("CAP_ARGS: %w", err)
		}
	}
	for _, pair := range strings.Split(os.Getenv("CNI_ARGS"), ";") {
		if key, value, isPair := strings.Cut(pair, "="); isPair {
			conf.Args = append(conf.Args, [2]string{key, value})
		}
	}
	return conf, nil
}
