package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

//go:generate go test -run ^TestReference$ -update-pages .

// TestReference wants docs/commands.md to say what the commands say of themselves.
func TestReference(t *testing.T) { isCommitted(t, "../../docs/commands.md", reference(newRoot())) }

// reference is the page of all commands that are not hidden, as each prints them with --help.
func reference(root *cobra.Command) string {
	var b strings.Builder
	b.WriteString("# Commands\n\nWhat every command prints with `--help`. Made from the commands themselves by `make generate`.\n")
	var add func(cmd *cobra.Command)
	add = func(cmd *cobra.Command) {
		if cmd.Hidden {
			return
		}
		about := cmd.Long
		if about == "" {
			about = cmd.Short
		}
		cmd.InitDefaultHelpFlag()
		fmt.Fprintf(&b, "\n## %s\n\n```text\n%s\n\n%s```\n", cmd.CommandPath(), strings.TrimSpace(about), cmd.UsageString())
		for _, sub := range cmd.Commands() {
			add(sub)
		}
	}
	add(root)
	return b.String()
}
