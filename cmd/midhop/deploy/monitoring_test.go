package deploy

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/midhop/midhop/tracer/export/prom"
)

// TestTheRulesAreOfOneSource holds the chart's PrometheusRule to the rules that are tested.
func TestTheRulesAreOfOneSource(t *testing.T) {
	text, err := fs.ReadFile(Monitoring(), "alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var rules any
	if err := yaml.Unmarshal(text, &rules); err != nil {
		t.Fatal(err)
	}
	rule := documents(t, "monitoring.prometheusRule=true")["PrometheusRule/midhop"]
	if d := cmp.Diff(rules, rule["spec"]); d != "" {
		t.Errorf("run go generate (-alerts.yaml +chart):\n%s", d)
	}
}

// queries returns every query of the dashboard and the alert rules.
func queries(t *testing.T) []string {
	t.Helper()
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	text, err := fs.ReadFile(Monitoring(), "dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, p := range dashboard.Panels {
		if len(p.Targets) == 0 {
			t.Errorf("panel %q shows nothing", p.Title)
		}
		for _, q := range p.Targets {
			out = append(out, q.Expr)
		}
	}
	var rules struct {
		Groups []struct{ Rules []struct{ Expr string } }
	}
	if text, err = fs.ReadFile(Monitoring(), "alerts.yaml"); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &rules); err != nil {
		t.Fatal(err)
	}
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			out = append(out, r.Expr)
		}
	}
	return out
}

var (
	metricName = regexp.MustCompile(`midhop_[a-z_]+`)
	selector   = regexp.MustCompile(`(midhop_[a-z_]+)\{([^}]*)\}`)
	matcher    = regexp.MustCompile(`([a-z_]+)(=~?)"([^"]*)"`)
	grouping   = regexp.MustCompile(`by \(([^)]*)\) \((?:[a-z]+\()*(midhop_[a-z_]+)`)
)

// TestQueriesMeetTheMetrics holds every query to metrics, labels and values that there are.
func TestQueriesMeetTheMetrics(t *testing.T) {
	all := make(map[string]prom.Metric)
	for _, m := range prom.Metrics() {
		all[m.Name] = m
		if m.Kind == prom.Histogram {
			m.Labels = append(slices.Clone(m.Labels), prom.Label{Name: "le"})
			all[m.Name+"_bucket"], all[m.Name+"_sum"], all[m.Name+"_count"] = m, m, m
		}
	}
	label := func(metric, name string) (prom.Label, bool) {
		i := slices.IndexFunc(all[metric].Labels, func(l prom.Label) bool { return l.Name == name })
		if i < 0 {
			return prom.Label{}, false
		}
		return all[metric].Labels[i], true
	}
	for _, q := range queries(t) {
		names := metricName.FindAllString(q, -1)
		if len(names) == 0 {
			t.Errorf("%s asks for nothing of midhop's", q)
		}
		for _, name := range names {
			if _, ok := all[name]; !ok {
				t.Errorf("%s: no metric %s", q, name)
			}
		}
		for _, s := range selector.FindAllStringSubmatch(q, -1) {
			for _, m := range matcher.FindAllStringSubmatch(s[2], -1) {
				l, ok := label(s[1], m[1])
				if !ok {
					t.Errorf("%s: %s has no label %s", q, s[1], m[1])
					continue
				}
				for _, v := range strings.Split(m[3], "|") {
					if l.Values != nil && !slices.Contains(l.Values, v) {
						t.Errorf("%s: %s is never %q", q, m[1], v)
					}
				}
			}
		}
		for _, g := range grouping.FindAllStringSubmatch(q, -1) {
			for _, name := range strings.Split(g[1], ",") {
				if _, ok := label(g[2], strings.TrimSpace(name)); !ok {
					t.Errorf("%s: %s has no label %s", q, g[2], name)
				}
			}
		}
	}
}

// TestPromtoolAgrees lets Prometheus' own tool parse every query and run the rules' tests, where PROMTOOL names it.
func TestPromtoolAgrees(t *testing.T) {
	promtool := os.Getenv("PROMTOOL")
	if promtool == "" {
		t.Skip("PROMTOOL does not name promtool: make test-alerts installs it")
	}
	var b strings.Builder
	b.WriteString("groups:\n- name: queries\n  rules:\n")
	for i, q := range queries(t) {
		fmt.Fprintf(&b, "  - record: q:%d\n    expr: %q\n", i, q)
	}
	file := filepath.Join(t.TempDir(), "queries.yaml")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	var metrics strings.Builder
	s := prom.Scrape{Counters: &prom.Counters{}}
	if err := s.Write(&metrics); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"check", "rules", file, "monitoring/alerts.yaml"}, {"test", "rules", "monitoring/alerts_test.yaml"}, {"check", "metrics"}} {
		cmd := exec.Command(promtool, args...)
		cmd.Stdin = strings.NewReader(metrics.String())
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %q: %v\n%s", args, err, out)
		} else if strings.Contains(string(out), "no help") || strings.Contains(string(out), "FAILED") {
			t.Errorf("promtool %q: %s", args, out)
		}
	}
}
