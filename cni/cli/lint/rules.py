"""What is a mistake: each rule, a line of meaning each."""

RULES = {
    "syntax": "the text is no JSON or YAML",
    "shape": "the document is no configuration, list, NetworkAttachmentDefinition or pod",
    "duplicate-key": "a key stands twice, and the last one counts",
    "invalid-value": "the plugin would refuse the value",
    "unknown-key": "the plugin does not know the key",
    "no-type": "a plugin has no type",
    "no-name": "a network has no name",
    "version": "a cniVersion that no plugin speaks",
    "name-mismatch": "a NetworkAttachmentDefinition and its configuration have different names",
    "bound-outside": "a bound or an exclusion of a range lies outside of it and is ignored",
    "empty-range": "a range has no address to give",
    "gateway-outside": "no range holds the gateway",
    "overlap": "two networks give out the same addresses from different pools",
    "mtu-over-master": "an interface is to have a larger MTU than the one that it rides on",
    "same-subnet": "a pod has two rails in one subnet without source routing",
    "annotation": "a pod's list of networks cannot be read",
    "unknown-network": "a pod names a network that is not among the files",
    "unknown-resource": "a network needs a resource that nobody defines",
}
