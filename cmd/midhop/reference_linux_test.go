package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

//go:generate go test -run ^TestReference$ -update-reference .

var updateReference = flag.Bool("update-reference", false, "write docs/commands.md anew")

// TestReference wants docs/commands.md to say what the commands say of themselves.
func TestReference(t *testing.T) {
	const page = "../../docs/commands.md"
	want := reference(newRoot())
	if *updateReference {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, string(have)); d != "" {
		t.Errorf("docs/commands.md is not what the commands say; run go generate ./cmd/midhop (-want +have)\n%s", d)
	}
}

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
