package ui

import (
	"bufio"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
)

// history is what was typed at the prompt, the newest last; it survives in a file where there is a place for one.
type history struct {
	path  string // empty: it does not survive
	lines []string
}

// maxHistory is how many lines are kept.
const maxHistory = 200

// openHistory reads what is there. A history that cannot be read is empty: it is no reason not to start.
func openHistory(path string) history {
	h := history{path: path}
	if path == "" {
		return h
	}
	file, err := os.Open(path)
	if err != nil {
		return h
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if s := lines.Text(); len(s) > 1 && len(s) <= maxPrompt && utf8.ValidString(s) && (s[0] == ':' || s[0] == '/') {
			h.lines = append(h.lines, s)
		}
	}
	h.lines = h.lines[max(0, len(h.lines)-maxHistory):]
	return h
}

// of returns what was typed after : or after /, the newest last.
func (h *history) of(kind rune) []string {
	var out []string
	for _, s := range h.lines {
		if rest, ok := strings.CutPrefix(s, string(kind)); ok {
			out = append(out, rest)
		}
	}
	return out
}

// add remembers a line. The file is written anew and takes the old one's place, so that it is never half a file.
func (h *history) add(kind rune, text string) {
	line := string(kind) + strings.ReplaceAll(text, "\n", " ")
	h.lines = slices.DeleteFunc(h.lines, func(s string) bool { return s == line })
	h.lines = append(h.lines, line)
	h.lines = h.lines[max(0, len(h.lines)-maxHistory):]
	if h.path == "" {
		return
	}
	dir := filepath.Dir(h.path)
	if os.MkdirAll(dir, 0o700) != nil {
		return
	}
	file, err := os.CreateTemp(dir, "history-*")
	if err != nil {
		return
	}
	_, err = file.WriteString(strings.Join(h.lines, "\n") + "\n")
	if closeErr := file.Close(); err != nil || closeErr != nil || os.Rename(file.Name(), h.path) != nil {
		_ = os.Remove(file.Name())
	}
}
