package trial

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var mutate = flag.Int("worlds.mutants", 0, "in how many worlds each broken judge has to be found; 0: only whether the places to break still stand")

// mutants are ways to break the model or the judge, each a line of its source and what it becomes. Fault is the primitive in
// whose worlds it is sought, as it matters nowhere else; empty: in those of chance.
var mutants = []struct{ fault, name, file, old, new string }{
	{"", "who lives has died", "diagnose/pulse.go", "s.life = lifeAlive", "s.life = lifeEnded"},
	{"", "who may yet speak has died", "diagnose/pulse.go", "case !p.missed, p.away:\n\t\ts.life = lifeWaiting", "case !p.missed, p.away:\n\t\ts.life = lifeEnded"},
	{"", "an inference is a proof", "diagnose/nodegone.go", "IP: s.hop.IP, Sure: event.Inferred}\n\tn := ", "IP: s.hop.IP, Sure: event.Proved}\n\tn := "},
	{"", "one witness is enough", "diagnose/blame.go", "\tbreadth = 3\n", "\tbreadth = 1\n"},
	{"", "retransmissions do not count", "model/fold.go", "m.pend(r).retrans >= 2 ||", "m.pend(r).retrans >= 200 ||"},
	{"", "what is not explained can wait", "diagnose/blame.go", "quietUnexplained = 3 * time.Second", "quietUnexplained = 30 * time.Second"},
	{"", "an emptied table is a reboot", "diagnose/forgotten.go", "{model.LossFlushed, ruleNATLost, lossNews, 1}", "{model.LossFlushed, ruleNodeRebooted, lossNews, 1}"},
	{"idle", "an expiry is an emptied table", "diagnose/forgotten.go", "{model.LossExpired, ruleIdleExpired, expiryNews, harm}", "{model.LossExpired, ruleNATLost, expiryNews, harm}"},
	{"", "a table is full from one percent on", "diagnose/tables.go", "fullShare = 97", "fullShare = 0"},
	{"power", "a reboot is an expiry", "diagnose/forgotten.go", "{model.LossReboot, ruleNodeRebooted, lossNews, 1}", "{model.LossReboot, ruleIdleExpired, lossNews, 1}"},
}

// TestMutants breaks the judge in ten ways, and wants each found: in some world an invariant is broken that holds
// there with the judge as it is.
func TestMutants(t *testing.T) {
	for _, m := range mutants {
		data, err := os.ReadFile(filepath.Join("..", m.file))
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(data), m.old); n != 1 {
			t.Errorf("%s: %q stands %d times in %s; choose another place to break", m.name, m.old, n, m.file)
		}
	}
	if *mutate == 0 || t.Failed() {
		return
	}
	as := make(map[string]map[string]bool) // what breaks with the judge as it is, by primitive
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			path, err := filepath.Abs(filepath.Join("..", m.file))
			if err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			broken := filepath.Join(t.TempDir(), filepath.Base(m.file))
			if err := os.WriteFile(broken, []byte(strings.Replace(string(data), m.old, m.new, 1)), 0o644); err != nil {
				t.Fatal(err)
			}
			if as[m.fault] == nil {
				as[m.fault] = breaks(t, m.fault, nil)
			}
			found := 0
			first := ""
			for line := range breaks(t, m.fault, map[string]string{path: broken}) {
				if !as[m.fault][line] {
					found++
					first = max(first, line)
				}
			}
			if found == 0 {
				t.Errorf("not found in %d worlds", *mutate)
			}
			t.Logf("breaks an invariant in %d worlds more, such as %s", found, first)
		})
	}
}

// breaks runs the worlds with some source files replaced, and returns what they break, as "seed invariant".
func breaks(t *testing.T, fault string, replace map[string]string) map[string]bool {
	t.Helper()
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file, list := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "list")
	if err := os.WriteFile(file, overlay, 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "test", "-overlay", file, "-count", "1", "-run", "^TestWorlds$", ".",
		fmt.Sprintf("-worlds.seeds=%d", *mutate), "-worlds.fault="+fault, "-worlds.hold=none", "-worlds.list="+list)
	text, err := cmd.CombinedOutput()
	data, readErr := os.ReadFile(list)
	if readErr != nil {
		t.Fatalf("%v\n%s", err, text) // a mutant that does not build, or panics, is none
	}
	all := make(map[string]bool)
	for line := range strings.Lines(string(data)) {
		all[strings.TrimSpace(line)] = true
	}
	return all
}
