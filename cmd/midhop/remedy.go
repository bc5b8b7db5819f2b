package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// remedyOf says what helps against a mistake in the command line of a command: the error's own word, else the name that was meant,
// else how the flag or the argument that the error speaks of is used.
func remedyOf(cmd *cobra.Command, err error) string {
	var e explained
	if errors.As(err, &e) && e.Remedy() != "" {
		return e.Remedy()
	}
	text := err.Error()
	help := cmd.CommandPath() + " --help"
	if wrong, ok := strings.CutPrefix(text, "unknown command "); ok {
		return commandMeant(cmd, quotedIn(wrong))
	}
	if wrong, ok := strings.CutPrefix(text, "unknown flag: --"); ok {
		if near := nearest(wrong, flagNames(cmd)); near != "" {
			return flagUsage(cmd, near) + "; all flags: " + help
		}
		return help + " lists its flags"
	}
	for _, name := range flagsIn.FindAllStringSubmatch(text, -1) {
		if cmd.Flags().Lookup(name[1]) != nil {
			return flagUsage(cmd, name[1]) + "; all flags: " + help
		}
	}
	if strings.HasPrefix(text, "unknown output ") && cmd.Flags().Lookup("output") != nil {
		return flagUsage(cmd, "output")
	}
	if cmd.HasExample() {
		example, _, _ := strings.Cut(strings.TrimSpace(cmd.Example), "\n")
		return "such as " + strings.TrimSpace(example) + "; more: " + help
	}
	return cmd.UseLine() + "; more: " + help
}

var flagsIn = regexp.MustCompile(`--([a-z][a-z-]*[a-z])`)

// commandMeant names the command that is nearest to a wrong one, or those that there are.
func commandMeant(cmd *cobra.Command, wrong string) string {
	root := cmd.Root()
	var names []string
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	if cmd != root { // it takes no argument
		return cmd.UseLine() + "; more: " + cmd.CommandPath() + " --help"
	}
	if near := nearest(wrong, names); near != "" {
		return root.CommandPath() + " " + near + "; all commands: " + root.CommandPath() + " help"
	}
	return "one of " + strings.Join(names, ", ") + "; what they do: " + root.CommandPath() + " help"
}

func quotedIn(text string) string {
	if parts := strings.SplitN(text, `"`, 3); len(parts) == 3 {
		return parts[1]
	}
	return text
}

func flagNames(cmd *cobra.Command) (names []string) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	slices.Sort(names)
	return names
}

// flagUsage writes how a flag is used, on one line.
func flagUsage(cmd *cobra.Command, name string) string {
	f := cmd.Flags().Lookup(name)
	value, usage := pflag.UnquoteUsage(f)
	if value != "" {
		value = " " + value
	}
	return fmt.Sprintf("--%s%s: %s", name, value, usage)
}
