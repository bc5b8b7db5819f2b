package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/midhop/midhop/tracer/event"
)

// build says which midhop this is; without the linker's word the commit comes from Go's own stamp.
func build() event.Build {
	b := event.Build{Version: version, Commit: commit}
	if info, ok := debug.ReadBuildInfo(); ok && b.Commit == "" {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				b.Commit = s.Value
			}
		}
	}
	return b
}

func newVersion() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b := build()
			switch output {
			case "text":
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "midhop %s (%s) %s %s/%s\n", b.Version, b.Commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
				return err
			case "json":
				return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]any{
					"version": b.Version, "commit": b.Commit, "go": runtime.Version(),
					"os": runtime.GOOS, "arch": runtime.GOARCH, "stream": event.Version,
				})
			}
			return usagef("unknown output %q: text or json", output)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}
