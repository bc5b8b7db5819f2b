// Command tests reads what `go test -json` writes and prints it for people: a line for each package, all that a failed test wrote, and at
// the end one line of how many passed, failed and were skipped, and why. Its exit code is 1 where a test failed or a package did not build.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
)

func main() {
	failed, err := summarize(os.Stdin, os.Stdout)
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "tests:", err)
		os.Exit(2)
	case failed:
		os.Exit(1)
	}
}

// line is one event of test2json, or of the build.
type line struct {
	Action      string
	Package     string
	ImportPath  string // of a build
	Test        string
	Output      string
	FailedBuild string
}

// summary is what was read so far.
type summary struct {
	packages       map[string]*pkg
	builds         map[string][]string // what the compiler said of an import path
	passed, failed int
	skipped        map[string]int // reason to tests
	broken         bool           // a package failed
}

type pkg struct {
	output []string         // of the package itself
	tests  map[string]*test // by name
}

type test struct {
	output []string
	parent bool // it has subtests, which are counted in its place
	bad    bool // itself or one of these failed, and was counted
}

// summarize copies the stream's meaning and says whether anything failed.
func summarize(in io.Reader, out io.Writer) (failed bool, err error) {
	s := summary{packages: make(map[string]*pkg), builds: make(map[string][]string), skipped: make(map[string]int)}
	lines := bufio.NewReader(in)
	for {
		text, err := lines.ReadBytes('\n')
		if len(text) > 0 {
			var l line
			if json.Unmarshal(text, &l) != nil || l.Action == "" {
				_, _ = out.Write(text) // go's own words, such as a module that cannot be loaded
			} else {
				s.take(&l, out)
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return true, err
		}
	}
	for name := range s.packages { // it was cut off
		fmt.Fprintf(out, "FAIL\t%s: it did not come to an end\n", name)
		s.broken = true
	}
	_, err = fmt.Fprintln(out, s.String())
	return s.failed > 0 || s.broken, err
}

func (s *summary) take(l *line, out io.Writer) {
	if l.Action == "build-output" {
		s.builds[l.ImportPath] = append(s.builds[l.ImportPath], l.Output)
	}
	if l.Package == "" {
		return
	}
	p := s.packages[l.Package]
	if p == nil {
		p = &pkg{tests: make(map[string]*test)}
		s.packages[l.Package] = p
	}
	if l.Test == "" {
		s.ofPackage(p, l, out)
		return
	}
	t := p.tests[l.Test]
	if t == nil {
		t = new(test)
		p.tests[l.Test] = t
		if i := strings.LastIndexByte(l.Test, '/'); i >= 0 {
			if up := p.tests[l.Test[:i]]; up != nil {
				up.parent = true
			}
		}
	}
	switch l.Action {
	case "output":
		t.output = append(t.output, l.Output)
	case "pass":
		if !t.parent {
			s.passed++
		}
	case "skip":
		if !t.parent {
			s.skipped[reason(t.output)]++
		}
	case "fail":
		if !t.bad {
			s.failed++
		}
		for name := l.Test; ; { // those above fail because of it
			i := strings.LastIndexByte(name, '/')
			if i < 0 {
				break
			}
			name = name[:i]
			if up := p.tests[name]; up != nil {
				up.bad = true
			}
		}
		t.bad = true
		for _, o := range t.output {
			if !strings.HasPrefix(o, "=== ") {
				fmt.Fprint(out, o)
			}
		}
	}
	if l.Action == "pass" || l.Action == "skip" || l.Action == "fail" {
		t.output = nil
	}
}

func (s *summary) ofPackage(p *pkg, l *line, out io.Writer) {
	switch l.Action {
	case "output":
		p.output = append(p.output, l.Output)
	case "pass", "skip":
		for _, o := range p.output {
			if strings.HasPrefix(o, "ok  ") || strings.HasPrefix(o, "?   ") {
				fmt.Fprint(out, o)
			}
		}
		delete(s.packages, l.Package)
	case "fail":
		s.broken = true
		for _, o := range s.builds[l.FailedBuild] {
			fmt.Fprint(out, o)
		}
		for name, t := range p.tests { // what was running when the process ended
			if !t.bad && !t.parent && len(t.output) > 0 {
				s.failed++
				fmt.Fprintf(out, "--- FAIL: %s: it did not come to an end\n%s", name, strings.Join(t.output, ""))
			}
		}
		fmt.Fprint(out, strings.Join(p.output, ""))
		delete(s.packages, l.Package)
	}
}

// where is the place in the source at the head of what a test wrote.
var where = regexp.MustCompile(`^\s*[^\s:]+\.go:\d+: `)

// reason is the last thing that a test wrote, in one line that is not too long.
func reason(output []string) string {
	const most = 110
	for _, o := range slices.Backward(output) {
		at := where.FindString(o)
		if at == "" {
			continue
		}
		text := strings.TrimSpace(strings.TrimPrefix(o, at))
		if len(text) > most {
			text = strings.ToValidUTF8(text[:most], "") + "..."
		}
		return text
	}
	return "no reason given"
}

// String is the last line: the most frequent reasons first.
func (s *summary) String() string {
	var why []string
	skipped := 0
	for r, n := range s.skipped {
		why = append(why, r)
		skipped += n
	}
	slices.SortFunc(why, func(a, b string) int {
		if d := s.skipped[b] - s.skipped[a]; d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	for i, r := range why {
		why[i] = fmt.Sprintf("%d: %s", s.skipped[r], r)
	}
	text := fmt.Sprintf("%d passed, %d failed, %d skipped", s.passed, s.failed, skipped)
	if skipped > 0 {
		text += " (" + strings.Join(why, " | ") + ")"
	}
	return text
}
