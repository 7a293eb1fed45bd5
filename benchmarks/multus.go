// multus stands in for the thin Multus, which Debian does not package, so that a chain can be measured
// beside a chain. It calls the delegates of its configuration by libcni, the library of Multus, in the order
// and with the files of Multus:
//
//	ADD  writes cniDir/<container> with all delegates, then calls AddNetwork for each, whose results
//	     libcni keeps below cniDir/results, and prints the result of the first.
//	DEL  reads that file, calls DelNetwork for each in reverse, and removes it.
//
// It does no more than Multus does, and leaves out much. Multus also looks in the sandbox whether the
// interface is there before each delegate, reads CNI_ARGS and runtimeConfig, takes lists of plugins, undoes a
// failed ADD, and logs; in a cluster it asks the API server for the pod and its networks and writes the pod's
// status; and its executable, which carries a Kubernetes client, is many times larger. So every ADD of Multus
// takes longer than this one's.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"
)

type configuration struct {
	types.NetConf
	CNIDir    string            `json:"cniDir"`
	Delegates []json.RawMessage `json:"delegates"`
}

// What is kept for DEL of a delegate, by the name that it has in Multus' file.
type delegate struct {
	Bytes []byte
}

func main() {
	skel.PluginMain(add, check, del, version.All, "a stand-in for Multus, to be measured")
}

func add(args *skel.CmdArgs) error {
	conf, err := load(args)
	if err != nil {
		return err
	}
	delegates := make([]delegate, len(conf.Delegates))
	for index, raw := range conf.Delegates {
		delegates[index].Bytes = raw
	}
	if err := conf.save(args, delegates); err != nil {
		return err
	}
	var first types.Result
	for index, each := range delegates {
		network, err := libcni.ConfFromBytes(each.Bytes)
		if err != nil {
			return err
		}
		result, err := conf.library().AddNetwork(context.Background(), network, attachment(args, index))
		if err != nil {
			return fmt.Errorf("error adding container to network %q: %w", network.Network.Name, err)
		}
		if index == 0 {
			first = result
		}
	}
	return first.Print()
}

func del(args *skel.CmdArgs) error {
	conf, err := load(args)
	if err != nil {
		return err
	}
	kept, err := os.ReadFile(conf.file(args))
	if err != nil {
		return nil // nothing is known: Multus is content, too
	}
	defer os.Remove(conf.file(args))
	var delegates []delegate
	if err := json.Unmarshal(kept, &delegates); err != nil {
		return err
	}
	for index := len(delegates) - 1; index >= 0; index-- {
		network, err := libcni.ConfFromBytes(delegates[index].Bytes)
		if err != nil {
			return err
		}
		if err := conf.library().DelNetwork(context.Background(), network, attachment(args, index)); err != nil {
			return err
		}
	}
	return nil
}

func check(*skel.CmdArgs) error {
	return errors.New("the stand-in for Multus has no CHECK")
}

func load(args *skel.CmdArgs) (*configuration, error) {
	conf := &configuration{CNIDir: "/var/lib/cni/multus"}
	if err := json.Unmarshal(args.StdinData, conf); err != nil {
		return nil, err
	}
	if len(conf.Delegates) == 0 {
		return nil, errors.New("at least one delegate must be specified")
	}
	return conf, nil
}

func (conf *configuration) file(args *skel.CmdArgs) string {
	return filepath.Join(conf.CNIDir, args.ContainerID)
}

func (conf *configuration) save(args *skel.CmdArgs, delegates []delegate) error {
	text, err := json.Marshal(delegates)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(conf.CNIDir, 0700); err != nil {
		return err
	}
	return os.WriteFile(conf.file(args), text, 0600)
}

func (conf *configuration) library() *libcni.CNIConfig {
	return libcni.NewCNIConfigWithCacheDir(filepath.SplitList(os.Getenv("CNI_PATH")), conf.CNIDir, nil)
}

// The first network has the interface that the runtime named, the others are numbered.
func attachment(args *skel.CmdArgs, index int) *libcni.RuntimeConf {
	name := args.IfName
	if index > 0 {
		name = fmt.Sprintf("net%d", index)
	}
	return &libcni.RuntimeConf{ContainerID: args.ContainerID, NetNS: args.Netns, IfName: name}
}
