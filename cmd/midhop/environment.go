package main

import (
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// fromEnvironment lets MIDHOP_<FLAG> set a flag that the command line did not: flags, then the environment, then defaults.
func fromEnvironment(root *cobra.Command) {
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		var bad error
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			name := "MIDHOP_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
			value, ok := os.LookupEnv(name)
			if !ok || f.Changed || bad != nil {
				return
			}
			if err := cmd.Flags().Set(f.Name, value); err != nil {
				bad = usagef("%s=%q: %w", name, value, err)
			}
		})
		return bad
	}
}
