package uitest

import (
	"strings"
	"testing"
)

// HelpEntry is one line of the help overlay.
type HelpEntry struct {
	Section string   // such as "ON THIS SCREEN: nodes" or "EVERYWHERE"
	Keys    []string // or the command
	Text    string
}

// ID tells entries apart: the section's first word and the key.
func (e HelpEntry) ID() string {
	section := e.Section
	if _, of, ok := strings.Cut(section, ": "); ok {
		section = of
	}
	return section + " " + e.Keys[0]
}

// Help opens the help overlay of the screen in view, reads it as a user would, and closes it. The terminal has to be high
// enough for all of it.
func (t *Terminal) Help() []HelpEntry {
	t.t.Helper()
	t.Press("?")
	text := t.Text()
	t.Press("esc")
	if strings.Contains(text, "more lines below") {
		t.t.Fatalf("the terminal is too low for the help:\n%s", text)
	}
	return readHelp(t.t, text)
}

// helpIndent is where the explanation of a key begins.
const helpIndent = 28

func readHelp(t testing.TB, text string) []HelpEntry {
	t.Helper()
	var out []HelpEntry
	section := ""
	for _, line := range strings.Split(text, "\n")[1:] {
		switch {
		case strings.HasPrefix(line, "   ") && strings.TrimSpace(line[:min(len(line), helpIndent)]) == "" && len(out) > 0:
			out[len(out)-1].Text += " " + strings.TrimSpace(line)
		case strings.HasPrefix(line, "   ") && len(line) > helpIndent:
			out = append(out, HelpEntry{section, strings.Fields(line[:helpIndent]), strings.TrimSpace(line[helpIndent:])})
		case strings.HasPrefix(line, " ") && strings.ToUpper(line[:3]) == line[:3] && strings.TrimSpace(line) != "":
			section = strings.TrimSpace(line)
		}
		if section == "WORDS" {
			return out
		}
	}
	return out
}
