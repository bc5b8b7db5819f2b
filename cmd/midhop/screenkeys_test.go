package main

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/midhop/midhop/ui"
	"github.com/midhop/midhop/ui/uitest"
)

// bigIncident is a recorded incident: node-a dies under 4,000 connections.
const bigIncident = "testdata/screens/node-gone-4000.jsonl.zst"

// replayed is a recording on a simulated terminal.
type replayed struct {
	*uitest.Terminal
	t      *testing.T
	player *player
	dir    string // where it saves
	saved  []string
}

// replayOn plays a recording on a terminal that is large enough for the whole help.
func replayOn(t *testing.T, file, speed string) *replayed {
	t.Helper()
	return replayAt(t, file, speed, 150, 130, true)
}

// replayAt plays a recording on a terminal of w columns and h rows.
func replayAt(t *testing.T, file, speed string, w, h int, ascii bool) *replayed {
	t.Helper()
	p := replayPlan{replayOptions: replayOptions{file: file, speed: speed}}
	if err := p.check(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.out = outScreen
	rec, err := openRecording(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	p.rec = rec
	if err := p.settle(); err != nil {
		t.Fatal(err)
	}
	r := &replayed{Terminal: uitest.New(t, w, h, rec.opening.Time), t: t, player: newPlayer(&p), dir: t.TempDir()}
	o := &r.player.opts
	r.Options(o)
	o.Now = time.Now
	o.Zone, o.ASCII = time.UTC, ascii
	o.History = filepath.Join(r.dir, "state", "history")
	o.SaveDirs = []string{r.dir}
	o.Saved = func(paths []string) { r.saved = paths }
	r.Run(func(ctx context.Context) error { return r.player.run(ctx) })
	return r
}

// home goes to the nodes screen, with nothing typed and nothing chosen.
func (r *replayed) home() {
	r.t.Helper()
	r.Press("1")
	for range 3 {
		r.Press("esc") // takes away a filter, and does nothing where there is none
	}
	r.Press("g")
	r.Await("GONE BY", "1 of 4")
}

// keyCheck presses a key and sees to it that it does what the help says.
type keyCheck func(r *replayed, key string)

// shows wants texts to stand on the screen after the key.
func shows(texts ...string) keyCheck {
	return func(r *replayed, key string) {
		r.t.Helper()
		r.Press(key)
		r.Await(texts...)
	}
}

// command types the key, which is a command, and what follows it.
func command(rest string, texts ...string) keyCheck {
	return func(r *replayed, key string) {
		r.t.Helper()
		r.Write(key + rest)
		r.Press("enter")
		r.Await(texts...)
	}
}

// after presses other keys first.
func after(keys []string, c keyCheck) keyCheck {
	return func(r *replayed, key string) {
		r.t.Helper()
		r.Press(keys...)
		c(r, key)
	}
}

// TestEveryKeyOfTheHelp reads the help of every screen, and checks that each key in it does what is written there. A key
// without a check fails, and so does a check without a key.
func TestEveryKeyOfTheHelp(t *testing.T) {
	r := replayOn(t, bigIncident, "max")
	r.Await("REPLAY END", "node-a gone")
	r.waitForSurvey()
	used := make(map[string]bool)
	for _, s := range []struct {
		keys  []string
		crumb string
	}{
		{nil, "nodes"}, {[]string{"2"}, "incidents"}, {[]string{"i"}, "incident"}, {[]string{"3"}, "sockets"},
		{[]string{"4"}, "path"}, {[]string{"5"}, "log"}, {[]string{"6"}, "doctor"},
	} {
		r.home()
		r.Press(s.keys...)
		entries := r.Help()
		if len(entries) < 30 {
			t.Fatalf("the help of %s has only %d entries: %v", s.crumb, len(entries), entries)
		}
		for _, e := range entries {
			id := e.Section + " " + e.Keys[0]
			if strings.HasPrefix(e.Section, "ON THIS SCREEN") {
				id = s.crumb + " " + e.Keys[0]
			}
			if used[id] {
				continue
			}
			used[id] = true
			check, ok := keyChecks[id]
			if !ok {
				t.Errorf("%q (%s) has no check", id, e.Text)
				continue
			}
			for _, key := range e.Keys {
				if e.Section == "COMMANDS" {
					key = e.Keys[0]
				}
				r.home()
				r.Press(s.keys...)
				t.Logf("%s: %s: %s", id, key, e.Text)
				check(r, key)
				if e.Section == "COMMANDS" {
					break
				}
			}
		}
	}
	for id := range keyChecks {
		if !used[id] {
			t.Errorf("there is a check for %q, but no such key in any help", id)
		}
	}
}

// waitForSurvey waits until the whole recording was looked through.
func (r *replayed) waitForSurvey() {
	r.t.Helper()
	deadline := time.Now().Add(hang)
	for r.player.Play().Surveyed < 1 {
		if time.Now().After(deadline) {
			r.t.Fatal("the survey does not end")
		}
		time.Sleep(10 * time.Millisecond) // nobody tells
	}
}

// lists are the checks of keys that every list has. On a screen of so many columns some columns find no room.
func lists(screen string, narrow int) map[string]keyCheck {
	head := func(r *replayed) string { // stands above the first row
		r.Press("g")
		lines := strings.Split(r.Text(), "\n")
		for i, l := range lines {
			if strings.HasPrefix(l, ">") {
				return lines[i-1]
			}
		}
		r.t.Fatalf("there is no cursor:\n%s", r.Text())
		return ""
	}
	mark := func(r *replayed) int { return strings.IndexAny(head(r), "v^") }
	return map[string]keyCheck{
		screen + " >": func(r *replayed, key string) {
			r.Press(key)
			one := mark(r)
			r.Press(key)
			if two := mark(r); one < 0 || two <= one {
				r.t.Errorf("sorted by the column at %d, then by that at %d", one, two)
			}
			r.Press("<", "<")
		},
		screen + " <": func(r *replayed, key string) {
			r.Press(">", ">")
			two := mark(r)
			r.Press(key)
			if one := mark(r); one < 0 || two <= one {
				r.t.Errorf("sorted by the column at %d, then by that at %d", two, one)
			}
			r.Press("<")
		},
		screen + " r": func(r *replayed, key string) {
			r.Press(">")
			down := head(r)
			r.Press(key)
			if up := head(r); !strings.Contains(down, "v") || !strings.Contains(up, "^") {
				r.t.Errorf("the order is not reversed: %q, then %q", down, up)
			}
			r.Press(key, "<")
		},
		screen + " w": func(r *replayed, key string) {
			r.Resize(narrow, 130)
			defer func() { r.Press(key); r.Resize(150, 130) }()
			usual := head(r)
			r.Press(key)
			more := strings.Fields(head(r))
			if slices.ContainsFunc(more, func(title string) bool { return !slices.Contains(strings.Fields(usual), title) }) {
				return
			}
			r.t.Errorf("at %d columns there is nothing new in %q after %q", narrow, more, usual)
		},
	}
}

var keyChecks = func() map[string]keyCheck {
	all := map[string]keyCheck{
		"nodes enter": shows("node-a > sockets", "of 1,33"),
		"nodes i":     shows("EVIDENCE FOR", "CRITICAL"),
		"nodes p":     shows("path of", "SHARED WITH OTHERS", "ENTRY NODE", "x==x"),
		"nodes e":     shows("log", `/"node-a"`, "stream.gap"),
		"nodes tab": func(r *replayed, key string) {
			for _, where := range []string{"in the detail pane", "in the evidence pane", "1 of 4"} {
				shows(where)(r, key)
			}
		},

		"incidents enter": shows("EVIDENCE FOR"),

		"incident enter": shows("STALLED", "via node-a"),
		"incident tab": func(r *replayed, key string) {
			shows("+>")(r, key)
			r.Press("enter")
			if text := r.Text(); !strings.Contains(text, "log, all facts") || !strings.Contains(text, "/id:") || strings.Contains(text, "no event is taken") {
				r.t.Errorf("enter on a line of evidence does not show its events:\n%s", text)
			}
		},
		"incident p": shows("path of", "SHARED WITH OTHERS"),
		"incident e": shows(`/"node-a"`),
		"incident w": func(r *replayed, key string) {
			r.Resize(80, 130)
			defer r.Resize(150, 130)
			if strings.Contains(r.Text(), "effect:") {
				r.t.Error("the remedies say all before they are asked to")
			}
			shows("effect:")(r, key)
		},
		"incident ]": turnsTo("["),
		"incident [": turnsTo("]"),

		"sockets enter": shows("path of", "SHARED WITH OTHERS"),
		"sockets i":     shows("EVIDENCE FOR"),
		"sockets e":     shows("log, all facts", "tcp.retransmit"),
		"sockets tab":   shows("in the pane below"),

		"path enter": shows("node-a > sockets"),
		"path o":     shows("> sockets", "/pod:"),
		"path u":     shows("> sockets", "/client:"),
		"path i":     shows("EVIDENCE FOR"),
		"path e":     shows("log, all facts"),

		"log a": shows("log, all facts", "tcp.retransmit"),
		"log J": shows(`{"v":1,"type":`),
		"log i": shows("EVIDENCE FOR"),

		"EVERYWHERE esc": func(r *replayed, key string) {
			r.Press("2", key)
			r.Await("GONE BY")
			r.Press("/")
			r.Write("via:node-b")
			r.Press("enter")
			r.Await("1 of 1 (3 hidden by the filter)")
			r.Press(key)
			r.Await(" of 4")
		},
		"EVERYWHERE /": func(r *replayed, key string) {
			r.Press(key)
			r.Write("vja:node-b")
			r.Await("not valid", "did you mean via?")
			r.Press("ctrl-u")
			r.Write("via:node-b")
			r.Await("ok, 1 of 1 (3 hidden by the filter)")
			r.Press("enter")
			r.Await("/via:node-b", "1 of 1")
		},
		"EVERYWHERE :": func(r *replayed, key string) {
			r.Press(key)
			r.Write("inc")
			r.Press("tab")
			r.Await(":incidents")
			r.Press("enter")
			r.Await("CULPRIT")
			r.Press(key, "up")
			r.Await(":incidents")
			r.Press("esc")
		},
		"EVERYWHERE 1": after([]string{"2"}, shows("GONE BY")),
		"EVERYWHERE 2": shows("CULPRIT"),
		"EVERYWHERE 3": shows("PEER", "of 4,000"),
		"EVERYWHERE 4": shows("path of"),
		"EVERYWHERE 5": shows("! incident  x timeout", "stream.gap"),
		"EVERYWHERE 6": shows("COVERAGE", "LOSS", "NODE-B"),
		"EVERYWHERE c": func(r *replayed, key string) {
			shows("copied node-a as text")(r, key)
			if !strings.Contains(r.Clipboard(), "another node stands in the middle") {
				r.t.Errorf("copied %q", r.Clipboard())
			}
		},
		"EVERYWHERE C": func(r *replayed, key string) {
			shows("copied node-a as JSON")(r, key)
			var node struct {
				Via    string
				Doomed int
			}
			if err := json.Unmarshal([]byte(r.Clipboard()), &node); err != nil || node.Via != "node-a" || node.Doomed < 1000 {
				r.t.Errorf("copied %q: %v", r.Clipboard(), err)
			}
		},
		"EVERYWHERE s": func(r *replayed, key string) {
			shows("saved ")(r, key)
			files, _ := filepath.Glob(filepath.Join(r.dir, "midhop-*"))
			if len(files) != 2 {
				r.t.Fatalf("saved %v", files)
			}
			for _, f := range files {
				data, err := os.ReadFile(f)
				if err != nil || !strings.Contains(string(data), "node-a") || strings.HasSuffix(f, ".json") && !json.Valid(data) {
					r.t.Errorf("%s: %v, %s", f, err, data)
				}
			}
		},
		"EVERYWHERE t": func(r *replayed, key string) {
			shows("times are UTC", "Z\n")(r, key)
			shows("times are relative to now", "s ago")(r, key)
			shows("times are local")(r, key)
		},
		"EVERYWHERE ?":      shows("EVERYWHERE", "WORDS"),
		"EVERYWHERE q":      ends(nil),
		"EVERYWHERE ctrl-c": ends(nil),
		"EVERYWHERE ctrl-z": func(r *replayed, key string) {
			before := r.Suspends()
			if r.Press(key); r.Suspends() != before+1 {
				r.t.Error("it does not stop")
			}
		},
		"EVERYWHERE ctrl-l": func(r *replayed, key string) {
			before := r.Syncs()
			if r.Press(key); r.Syncs() != before+1 {
				r.t.Error("the screen was not painted anew")
			}
		},

		"THE RECORDING space": func(r *replayed, key string) {
			r.seek(8 * time.Second)
			r.Await("REPLAY PAUSED")
			r.player.Speed(0.1)
			shows("REPLAY x0.1")(r, key)
			shows("REPLAY PAUSED")(r, key)
			r.end()
		},
		"THE RECORDING .": steps(func(a, b time.Time) bool { return b.Sub(a) == time.Second }),
		"THE RECORDING ,": steps(func(a, b time.Time) bool { return a.Sub(b) == time.Second }),
		"THE RECORDING +": func(r *replayed, key string) { r.player.Speed(1); shows("speed x2")(r, key); r.end() },
		"THE RECORDING -": func(r *replayed, key string) { r.player.Speed(1); shows("speed x0.5")(r, key); r.end() },
		"THE RECORDING ]": func(r *replayed, key string) {
			r.seek(2 * time.Second)
			r.AwaitGone("INCIDENT ") // it is not open before it opens
			r.Press(key)
			r.stands(r.openings()[0].After)
			r.Await("INCIDENT ", ": node-a", "REPLAY PAUSED")
			r.end()
		},
		"THE RECORDING [": func(r *replayed, key string) {
			r.player.Pause(true)
			r.Press(key)
			all := r.openings()
			r.stands(all[len(all)-1].After)
			r.Await("INCIDENT critical: node-a gone", "REPLAY PAUSED")
			r.end()
		},
		"THE RECORDING T": func(r *replayed, key string) { shows(":goto ")(r, key); r.Press("esc") },

		"COMMANDS :nodes":     after([]string{"2"}, command("", "GONE BY")),
		"COMMANDS :incidents": command("", "CULPRIT"),
		"COMMANDS :sockets":   command(" node-c", "node-c > sockets"),
		"COMMANDS :path":      command("", "path of"),
		"COMMANDS :log":       command(" node-b", `/"node-b"`),
		"COMMANDS :doctor":    command("", "COVERAGE"),
		"COMMANDS :help":      command("", "EVERYWHERE"),
		"COMMANDS :sort":      command(" sockets", "SOCKETSv"),
		"COMMANDS :time": func(r *replayed, key string) {
			command(" utc", "times are UTC")(r, key)
			command(" local", "times are local")(r, key)
		},
		"COMMANDS :export": command("", "saved "),
		"COMMANDS :goto": func(r *replayed, key string) {
			r.player.Pause(true)
			to := r.player.Play().At.Add(-3 * time.Second)
			command(" -3s")(r, key)
			r.stands(to)
			r.end()
		},
		"COMMANDS :speed": func(r *replayed, key string) { command(" 5", "speed x5")(r, key); r.end() },
		"COMMANDS :quit":  func(r *replayed, key string) { ends([]string{":", "q", "u", "i", "t"})(r, "enter") },
	}
	all["THE RECORDING 0"] = func(r *replayed, key string) {
		r.player.Pause(true)
		r.Press(key)
		r.stands(r.player.Play().Begin)
		r.end()
	}
	for _, l := range []map[string]keyCheck{
		lists("nodes", 80), lists("incidents", 80), lists("sockets", 80), lists("log", 50),
	} {
		maps.Copy(all, l)
	}
	for _, key := range []string{"j", "ctrl-d", "pgdn", "G"} {
		all["EVERYWHERE "+key] = moves(1)
	}
	for _, key := range []string{"k", "ctrl-u", "pgup", "g"} {
		all["EVERYWHERE "+key] = moves(-1)
	}
	return all
}()

// turnsTo wants a key to turn to another of several incidents, or to say that there is none that way; then the other key
// leads there, and this one back.
func turnsTo(other string) keyCheck {
	return func(r *replayed, key string) {
		r.t.Helper()
		title := func() string { first, _, _ := strings.Cut(r.Text(), "\n"); return first }
		if len(r.player.Snapshot().Incidents) < 2 { // by the rules of today
			r.Press(key)
			r.Await("there is no other incident that way")
			return
		}
		here := title()
		if r.Press(key); title() != here {
			return
		}
		r.Await("there is no other incident that way")
		r.Press(other)
		there := title()
		if r.Press(key); there == here || title() != here {
			r.t.Errorf("%s leads from %q to %q, %s then to %q", other, here, there, key, title())
		}
	}
}

// openings are the moments at which incidents open.
func (r *replayed) openings() []ui.Moment {
	r.t.Helper()
	var out []ui.Moment
	for _, m := range r.player.Play().Moments {
		if m.Mark == '!' {
			out = append(out, m)
		}
	}
	if len(out) == 0 {
		r.t.Fatal("no incident opens in the recording")
	}
	return out
}

// stands waits until the recording stands at a moment.
func (r *replayed) stands(at time.Time) {
	r.t.Helper()
	r.arrives(func(_, now time.Time) bool { return now.Equal(at) }, at)
}

// arrives waits until the recording has come to a moment that is as wanted.
func (r *replayed) arrives(ok func(before, now time.Time) bool, before time.Time) {
	r.t.Helper()
	deadline := time.Now().Add(hang)
	for {
		p := r.player.Play()
		if p.Seeking.IsZero() && ok(before, p.At) {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("from %s the recording came to %s", before, p.At)
		}
		time.Sleep(10 * time.Millisecond) // the player tells nobody
	}
}

// seek stops so long after the beginning.
func (r *replayed) seek(d time.Duration) {
	r.t.Helper()
	r.player.Pause(true)
	at := r.player.Play().Begin.Add(d)
	if err := r.player.Seek(at); err != nil {
		r.t.Fatal(err)
	}
	r.stands(at)
}

// end goes to the end again.
func (r *replayed) end() {
	r.t.Helper()
	r.player.Speed(0)
	r.player.Pause(false)
	r.Await("REPLAY END")
}

// steps wants a key to lead from the eighth second to where it should.
func steps(ok func(before, now time.Time) bool) keyCheck {
	return func(r *replayed, key string) {
		r.t.Helper()
		r.seek(8 * time.Second)
		before := r.player.Play().At
		r.Press(key)
		r.arrives(ok, before)
		r.end()
	}
}

// moves wants the cursor of the sockets screen to go on (1) or back (-1).
func moves(by int) keyCheck {
	return func(r *replayed, key string) {
		r.t.Helper()
		r.Press("3")
		r.Await("of 4,000")
		if r.Press("g"); by < 0 {
			r.Press("G")
		}
		before := r.place()
		if r.Press(key); (r.place()-before)*by <= 0 {
			r.t.Errorf("%s leads from row %d to %d", key, before, r.place())
		}
	}
}

var placeOf = regexp.MustCompile(`([0-9,]+) of 4,000`)

// place is the row of the cursor.
func (r *replayed) place() int {
	r.t.Helper()
	m := placeOf.FindStringSubmatch(r.Text())
	if m == nil {
		r.t.Fatalf("the screen does not say where the cursor is:\n%s", r.Text())
	}
	n, _ := strconv.Atoi(strings.ReplaceAll(m[1], ",", ""))
	return n
}

// ends starts another screen and wants a key to end it, after others.
func ends(before []string) keyCheck {
	return func(r *replayed, key string) {
		r.t.Helper()
		other := replayOn(r.t, bigIncident, "max")
		other.Press(before...)
		other.Type(key)
		if err := other.Ended(); err != nil {
			r.t.Errorf("%s ends with %v", key, err)
		}
	}
}
