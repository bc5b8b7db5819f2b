package ui_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/midhop/midhop/ui"
	"github.com/midhop/midhop/ui/uitest"
)

func TestFilterIsAppliedWhileItIsTyped(t *testing.T) {
	term := start(t, 100, 30, nil)
	term.Show(uitest.NodeGone())
	term.Press("/")
	term.Write("via:node-b")
	wants(t, term, "ok, 1 of 1 (3 hidden by the filter)", "node-b")
	lacks(t, term, ">x node-a")
	term.Write(" left<")
	wants(t, term, "not valid", "want a value")
	term.Press("enter")
	wants(t, term, "not valid") // it stays open
	term.Press("esc")
	wants(t, term, ">x node-a", "1 of 4")
	term.Press("/")
	term.Write("dooomed>1")
	wants(t, term, `unknown field "dooomed", did you mean doomed?`)
	term.Press("ctrl-u")
	term.Write("doo")
	term.Press("tab")
	wants(t, term, " /doomed")
	term.Write(">1")
	term.Press("enter")
	wants(t, term, "/doomed>1", "1 of 1")
	term.Press("esc")
	wants(t, term, "1 of 4")
}

func TestPromptEditsItsLine(t *testing.T) {
	term := start(t, 100, 30, nil)
	term.Show(uitest.NodeGone())
	term.Press("/")
	term.Write("vxa:node-b x")
	term.Press("ctrl-w", "home", "right", "delete")
	term.Write("i")
	term.Press("end", "backspace", "left", "ctrl-k", "right")
	wants(t, term, " /via:node-")
	term.Press("ctrl-a", "ctrl-k")
	term.Press("backspace") // of nothing: the prompt closes
	wants(t, term, "? help")
	term.Press(":")
	term.Write("nodez")
	wants(t, term, "no command nodez")
	term.Press("enter")
	wants(t, term, "did you mean nodes?")
}

func TestHistorySurvives(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "midhop", "history")
	for range 2 { // the second run finds what the first typed
		term := start(t, 100, 30, func(o *ui.Options) { o.History = path })
		term.Show(uitest.NodeGone())
		term.Press("/")
		term.Write("via:node-b")
		term.Press("enter", "esc", ":")
		term.Write("incidents")
		term.Press("enter", "1", ":", "up")
		wants(t, term, " :incidents")
		term.Press("down", "esc", "/", "up")
		wants(t, term, " /via:node-b")
		term.Press("esc")
		term.Type("q")
		if err := term.Ended(); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil || string(data) != "/via:node-b\n:incidents\n" {
		t.Errorf("the history holds %q, %v", data, err)
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("others may read the history: %v", info.Mode())
	}
	if err := os.WriteFile(path, []byte("\x00\xff garbage\n:nodes\n"+strings.Repeat("x", 1<<17)), 0o600); err != nil {
		t.Fatal(err)
	}
	term := start(t, 100, 30, func(o *ui.Options) { o.History = path })
	term.Press(":", "up")
	wants(t, term, " :nodes")
}

// TestTakingAlong copies and saves on every screen; what comes as JSON is JSON.
func TestTakingAlong(t *testing.T) {
	dir := t.TempDir()
	var saved []string
	term := start(t, 120, 40, func(o *ui.Options) {
		o.SaveDirs = []string{filepath.Join(dir, "missing"), dir} // the first does not take files
		o.Saved = func(paths []string) { saved = paths }
		o.Log = ui.NewLog(100)
		o.Log.Write(uitest.Events())
	})
	term.Show(uitest.NodeGone())
	for _, s := range []struct {
		key, text, member string
	}{
		{"1", "node-a", `"doomed": 66`}, {"2", "EVIDENCE FOR", `"rule": "node-gone"`}, {"i", "EVIDENCE FOR", `"rule": "node-gone"`},
		{"3", "clock keepalive", `"status": "STALLED"`}, {"4", "ENTRY NODE", `"shared"`}, {"5", "stream.gap", `"type": "stream.gap"`},
		{"6", "COVERAGE", `"probes"`},
	} {
		term.Press("1", s.key, "c")
		if !strings.Contains(term.Clipboard(), s.text) {
			t.Errorf("%s: %q is not in what was copied: %q", s.key, s.text, term.Clipboard())
		}
		term.Press("C")
		if !json.Valid([]byte(term.Clipboard())) || !strings.Contains(term.Clipboard(), s.member) {
			t.Errorf("%s: %s is not in what was copied: %s", s.key, s.member, term.Clipboard())
		}
		term.Press("s")
		wants(t, term, "saved "+dir)
		term.Pass(time.Second)
	}
	term.Press("?", "c")
	wants(t, term, "nothing to copy on this screen")
	term.Type("q")
	if err := term.Ended(); err != nil {
		t.Fatal(err)
	}
	if len(saved) != 14 {
		t.Fatalf("saved %v", saved)
	}
	for _, path := range saved {
		data, err := os.ReadFile(path)
		if err != nil || strings.HasSuffix(path, ".json") && !json.Valid(data) || strings.HasSuffix(path, ".txt") && !strings.Contains(string(data), "midhop") {
			t.Errorf("%s: %v: %s", path, err, data)
		}
	}
}

func TestTimesAndZones(t *testing.T) {
	zone := time.FixedZone("X", 2*3600)
	term := start(t, 120, 40, func(o *ui.Options) { o.Zone = zone })
	term.Show(uitest.NodeGone())
	wants(t, term, "LIVE 13:30:12", "first gives up 13:32:31")
	term.Press("t")
	wants(t, term, "LIVE 11:30:12Z", "first gives up 11:32:31")
	term.Press("t")
	wants(t, term, "first gives up in 2m19s", "LIVE 13:30:12")
	term.Press("t")
	wants(t, term, "LIVE 13:30:12", "first gives up 13:32:31")
}

func TestARecordingIsSteered(t *testing.T) {
	rec := &recorded{play: uitest.Replay()}
	term := start(t, 120, 40, func(o *ui.Options) { o.Replay, o.Player = true, rec })
	term.Show(uitest.NodeGone())
	wants(t, term, "REPLAY PAUSED")
	for _, test := range []struct{ keys, want string }{
		{"space", "pause false"}, {".", "pause true seek 11:30:13"}, {",", "pause true seek 11:30:11"}, {"+", "speed 2"}, {"-", "speed 0.5"},
		{"[", "seek 11:30:02"}, {"0", "seek 11:26:12"},
	} {
		rec.asked = nil
		term.Press(test.keys)
		if got := strings.Join(rec.asked, " "); got != test.want {
			t.Errorf("%s: asked %q, want %q", test.keys, got, test.want)
		}
	}
	term.Press("]")
	wants(t, term, "no incident opens after this")
	for text, want := range map[string]string{"goto 11:29": "seek 11:29:00", "goto +30s": "seek 11:30:42", "goto 2026-11-23T11:28:01Z": "seek 11:28:01", "speed max": "speed 0", "speed 0.5x": "speed 0.5"} {
		rec.asked = nil
		term.Press(":")
		term.Write(text)
		term.Press("enter")
		if got := strings.Join(rec.asked, " "); got != want {
			t.Errorf("%s: asked %q, want %q", text, got, want)
		}
	}
	live := start(t, 120, 40, nil)
	live.Press(":")
	live.Write("goto 11:29")
	live.Press("enter")
	wants(t, live, "only a recording can be steered")
}
