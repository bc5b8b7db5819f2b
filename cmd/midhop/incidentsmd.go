package main

import (
	"fmt"
	"strings"

	"github.com/midhop/midhop/tracer/model"
	"github.com/midhop/midhop/tracer/report"
)

// markdown puts text that came from a cluster between words of ours: what Markdown would take for a mark is escaped.
var markdown = strings.NewReplacer(
	`\`, `\\`, "`", "\\`", "*", `\*`, "_", `\_`, "[", `\[`, "]", `\]`, "<", `\<`, ">", `\>`, "|", `\|`, "#", `\#`, "~", `\~`,
)

func md(s string) string { return markdown.Replace(report.Clean(s)) }

func mdLine(l report.Line) string { return md(l.String()) }

// incidentMarkdown tells one incident as a page for a post-mortem.
func incidentMarkdown(cx report.Context, c *report.Case) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n%s\n\n", md(c.Title()), mdLine(c.Head(cx, false)))
	b.WriteString("| | |\n|---|---|\n")
	for _, f := range c.Facts(cx, false) {
		for _, l := range f.Lines {
			fmt.Fprintf(&b, "| %s | %s |\n", f.Title, mdLine(l))
		}
	}
	fmt.Fprintf(&b, "| Opened | %s |\n", c.Incident.Opened.UTC().Format("2006-01-02 15:04:05.000 UTC"))
	if c.Incident.Closed.OK {
		fmt.Fprintf(&b, "| Closed | %s: %s |\n", c.Incident.Closed.V.UTC().Format("2006-01-02 15:04:05.000 UTC"), md(c.Incident.Why))
	}
	if len(c.Marks) > 0 {
		b.WriteString("\n## Timeline\n\n| Time | What | Stalled |\n|---|---|---:|\n")
		for _, m := range c.Marks {
			fmt.Fprintf(&b, "| %s | %s | %s |\n", cx.Millis(m.Time), md(m.Text), report.Count(m.Stalled))
		}
	}
	mdList(&b, "Evidence for", c.For())
	mdList(&b, "Evidence against, and what was not seen", c.Against())
	if len(c.Incident.Remedy) > 0 {
		b.WriteString("\n## What to do\n")
		for i, r := range c.Incident.Remedy {
			fmt.Fprintf(&b, "\n%d. **%s**: %s", i+1, md(r.When), md(r.Text))
			for _, note := range []struct{ name, text string }{{"effect", r.Effect}, {"risk", r.Risk}, {"needs", r.Needs}} {
				if note.text != "" {
					fmt.Fprintf(&b, "\n   - %s: %s", note.name, md(note.text))
				}
			}
			b.WriteByte('\n')
			if r.Command == "" {
				continue
			}
			b.WriteString("\n   ```sh\n")
			for line := range strings.Lines(r.Command) {
				fmt.Fprintf(&b, "   %s\n", strings.ReplaceAll(report.Clean(strings.TrimRight(line, "\r\n")), "```", "'''"))
			}
			b.WriteString("   ```\n")
		}
	}
	mdList(&b, "Other explanations", c.Alternatives())
	fmt.Fprintf(&b, "\nIncident `%s`, found by midhop.\n", strings.ReplaceAll(report.Clean(c.Incident.ID), "`", "'"))
	return b.String()
}

func mdList(b *strings.Builder, title string, s report.Section) {
	if len(s.Lines) == 0 {
		return
	}
	fmt.Fprintf(b, "\n## %s\n\n", title)
	for _, l := range s.Lines {
		text := strings.TrimSpace(l.String())
		for _, mark := range []string{"+ ", "- "} {
			text = strings.TrimPrefix(text, mark)
		}
		fmt.Fprintf(b, "- %s\n", md(text))
	}
}

// incidentsMarkdown lists incidents as a table.
func incidentsMarkdown(cx report.Context, s *sight, list []model.IncidentView) string {
	var b strings.Builder
	fields := report.IncidentFields()
	for _, f := range fields {
		fmt.Fprintf(&b, "| %s ", f.Title)
	}
	b.WriteString("| ID |\n")
	b.WriteString(strings.Repeat("|---", len(fields)+1) + "|\n")
	for i := range list {
		for _, cell := range report.Cells(cx, fields, &list[i]) {
			fmt.Fprintf(&b, "| %s ", md(cell.S))
		}
		fmt.Fprintf(&b, "| %s |\n", md(list[i].ID))
	}
	if len(list) == 0 {
		b.WriteString("\nNo incident.\n")
	}
	fmt.Fprintf(&b, "\n%s\n", md(report.Seen(cx, s.snap)))
	return b.String()
}
