package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// print writes the table test x kernel, then why what was skipped was skipped, then what is not as expected.
func (r *results) print(w io.Writer) {
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(first string, cell func(column) string) {
		fmt.Fprint(t, first)
		for _, c := range r.columns {
			fmt.Fprint(t, "\t", cell(c))
		}
		fmt.Fprintln(t)
	}
	line("", func(c column) string { return c.name })
	line("kernel", func(c column) string { return c.release })
	line("booted after", func(c column) string { return seconds(c.boot) })
	line("guest ran", func(c column) string { return seconds(c.total) })
	job := ""
	for _, key := range r.rows {
		if !r.shown(key) {
			continue
		}
		if key.job != job {
			job = key.job
			line(job, func(column) string { return "" })
		}
		name := key.test
		if name == "" {
			name = "exit status"
		}
		line("  "+name, func(c column) string { return c.outcomes[key].cell() })
	}
	t.Flush()

	reasons := map[string][]string{}
	var order []string
	for _, c := range r.columns {
		for _, key := range r.rows {
			if o := c.outcomes[key]; o.verdict == "skip" && o.expected {
				text := fmt.Sprintf("%s %s: %s", key.job, key.test, o.reason)
				if !slices.Contains(order, text) {
					order = append(order, text)
				}
				reasons[text] = append(reasons[text], c.name)
			}
		}
	}
	if len(order) > 0 {
		fmt.Fprintln(w, "\nskipped, as expected:")
	}
	for _, text := range order {
		fmt.Fprintf(w, "  %s: %s\n", strings.Join(reasons[text], " "), text)
	}
	if len(r.wrong) > 0 {
		fmt.Fprintln(w, "\nNOT AS EXPECTED:")
	}
	for _, text := range r.wrong {
		fmt.Fprintln(w, "  "+strings.ReplaceAll(text, "\n", "\n    "))
	}
}

// shown leaves out subtests that passed everywhere and that no line of the table names.
func (r *results) shown(key row) bool {
	return !strings.Contains(key.test, "/") || r.notable[key]
}

// cell is an outcome in a word; capitals and a mark say that it is not the expected one.
func (o outcome) cell() string {
	switch {
	case o.verdict == "":
		return "-"
	case !o.expected:
		return strings.ToUpper(o.verdict) + "!"
	case o.verdict == "pass":
		if o.took > 0 {
			return "ok " + seconds(o.took)
		}
		return "ok"
	}
	return o.verdict
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1fs", d.Seconds()) }
