package main

import (
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

// pluginName is the name under which kubectl finds this program as a plugin: kubectl midhop runs kubectl-midhop.
const pluginName = "kubectl-midhop"

// isPlugin says whether the program was started under the plugin's name.
func isPlugin(program string) bool {
	return strings.TrimSuffix(filepath.Base(program), ".exe") == pluginName
}

// asPlugin has every command that can read a hub read the cluster's: whoever speaks to kubectl means a cluster, and not the
// machine that kubectl runs on. What acts on this machine, or is a part of a fleet, keeps its default.
func asPlugin(root *cobra.Command) {
	root.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl midhop"}
	for _, cmd := range append(root.Commands(), root) {
		f := cmd.Flags().Lookup("hub")
		if f == nil || cmd.Name() == "agent" || cmd.Name() == "relief" {
			continue
		}
		f.DefValue = hubInCluster
		_ = f.Value.Set(hubInCluster) // a string takes everything
	}
}
