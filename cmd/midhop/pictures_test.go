package main

import (
	"os"
	"strings"
	"testing"
	"time"
)

//go:generate go test -run ^TestPictures$ -update-pages .

// TestPictures wants the README's pictures to be what the screens show of a recording: node-a dies under 4,000
// connections, and some three seconds have gone by since the incident opened.
func TestPictures(t *testing.T) {
	const path = "../../README.md"
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	readme := string(data)
	r := replayAt(t, bigIncident, "max", 80, 24, false)
	r.Await("REPLAY END")
	r.waitForSurvey()
	all := r.openings()
	at := all[len(all)-1].After.Truncate(time.Second).Add(3 * time.Second)
	r.player.Pause(true)
	if err := r.player.Seek(at); err != nil {
		t.Fatal(err)
	}
	r.stands(at)
	for _, picture := range []struct {
		name  string
		keys  []string
		shows []string
	}{
		{"nodes", nil, []string{"REPLAY PAUSED", "INCIDENT critical", "DOOMED"}},
		{"path", []string{"p"}, []string{"REPLAY PAUSED", "x==x", "SHARED WITH OTHERS"}},
	} {
		r.Press(picture.keys...)
		r.Await(picture.shows...)
		mark := "<!-- picture: " + picture.name + " -->\n```text\n"
		before, rest, ok := strings.Cut(readme, mark)
		if !ok {
			t.Fatalf("the README has no place for %s", picture.name)
		}
		_, after, ok := strings.Cut(rest, "```\n")
		if !ok {
			t.Fatalf("the block of %s has no end", picture.name)
		}
		readme = before + mark + squeeze(r.Text()) + "```\n" + after
	}
	isCommitted(t, path, readme)
}

// squeeze leaves one of each run of empty lines.
func squeeze(text string) string {
	var out []string
	for _, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		if line != "" || len(out) > 0 && out[len(out)-1] != "" {
			out = append(out, line)
		}
	}
	return strings.Join(out, "\n") + "\n"
}
