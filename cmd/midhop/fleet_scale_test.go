package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

const (
	simConns      = 50 // of the whole fleet
	simGenerators = 5  // processes that play it
)

// TestFleetScale drives a real hub with MIDHOP_SCALE_AGENTS simulated agents for MIDHOP_SCALE_TIME, over 50 connections from
// processes of their own, lets one node die in the middle, and prints what that took. With MIDHOP_SCALE_SERVERS the streams
// are in a cluster of so many nats-servers, of which one is killed before the node dies. See make bench-fleet.
func TestFleetScale(t *testing.T) {
	agents, _ := strconv.Atoi(os.Getenv("MIDHOP_SCALE_AGENTS"))
	if agents == 0 {
		t.Skip("MIDHOP_SCALE_AGENTS does not say how many agents: make bench-fleet does")
	}
	span, err := time.ParseDuration(os.Getenv("MIDHOP_SCALE_TIME"))
	if err != nil {
		t.Fatal(err)
	}
	servers, _ := strconv.Atoi(os.Getenv("MIDHOP_SCALE_SERVERS"))
	s := startScale(t, agents, servers)
	rest := func(until time.Duration) { time.Sleep(until - time.Since(s.begin)) } // the load is the test
	rest(span / 3)
	if servers > 0 {
		s.nats.killLeader()
	}
	rest(span / 2)
	death := time.Now()
	s.tell("die")
	select {
	case in := <-s.named:
		took := in.Opened.Sub(death)
		t.Logf("named %s %s %.2f s after it died, told %.2f s after", in.Rule, in.Culprit.Name, took.Seconds(), time.Since(death).Seconds())
		if in.Culprit.Name != simNode(0) {
			t.Errorf("%s is named: %s", in.Culprit.Name, in.Title)
		}
	case <-time.After(30 * time.Second):
		t.Error("nobody is named within 30 s")
	}
	rest(span)
	took := time.Since(s.begin).Seconds()
	cpu, rss := usageOf(s.hub.Process.Pid)
	lost := s.lost()
	disk, others := dirSize(s.dir), ""
	if servers > 0 {
		others = s.nats.usage(took)
	}
	r := s.end()
	t.Log("| agents | live flows | events/s | hub CPU (cores) | hub memory, most | wire | disk | generators' CPU | most late | late at the death | dropped | not acknowledged yet | lost |")
	t.Logf("| %d | %d | %.0f | %.2f | %d MB | %.1f MB/s | %d MB | %.2f | %.1f s | %.1f s | %d | %d | %.0f |", agents, agents*simFlows,
		float64(r.Acked)/took, cpu/took, rss>>20, float64(r.Sent)/took/1e6, disk>>20, r.CPU/took, r.Late, r.LateThen, r.Dropped, r.Waiting, lost)
	if others != "" {
		t.Log(others)
	}
	if r.Dropped > 0 || lost > 0 {
		t.Errorf("%d events were dropped, and %.0f are known to be lost", r.Dropped, lost)
	}
	if cpu/took > 1 {
		t.Errorf("the hub takes %.2f cores: more than 1", cpu/took)
	}
	if rss > 1<<30 {
		t.Errorf("the hub takes %d MB: more than 1 GiB", rss>>20)
	}
}

// scale is a hub under load.
type scale struct {
	metrics    string // where the hub serves them
	t          *testing.T
	dir        string
	begin      time.Time
	hub        *exec.Cmd
	named      chan event.Incident
	nats       *natsCluster
	generators []*generator
}

// generator is a process that plays agents.
type generator struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	report chan simReport
}

func startScale(t *testing.T, agents, servers int) *scale {
	if binary == "" {
		t.Skip("the program is built for root only")
	}
	s := &scale{t: t, dir: t.TempDir(), named: make(chan event.Incident, 1)}
	ports := freePorts(t, 2)
	listen := fmt.Sprintf("127.0.0.1:%d", ports[0])
	s.metrics = fmt.Sprintf("127.0.0.1:%d", ports[1])
	plan := simPlan{URL: "nats://" + listen, Agents: agents, Conns: min(simConns, agents)}
	tokens, err := plan.writeTokens(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	argv := []string{"hub", "--listen", listen, "--dir", filepath.Join(s.dir, "streams"), "--tokens", tokens, "--metrics", s.metrics, "-o", "jsonl"}
	if servers > 0 {
		s.nats = startNATS(t, s.dir, servers)
		plan.URL = s.nats.url()
		argv = []string{"hub", "--nats", plan.URL, "--replicas", strconv.Itoa(servers), "--max-size", "1G", "--metrics", s.metrics, "-o", "jsonl"}
	}
	s.hub = exec.Command(binary, argv...)
	s.hub.Stderr = os.Stderr
	out, err := s.hub.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.hub.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.hub.Process.Kill(); _ = s.hub.Wait() })
	go s.read(out)
	s.begin = time.Now()
	for i := range simGenerators {
		part := plan
		part.First = i * plan.Conns / simGenerators
		part.Count = (i+1)*plan.Conns/simGenerators - part.First
		s.generators = append(s.generators, startGenerator(t, part))
	}
	return s
}

// read waits for the first incident.
func (s *scale) read(out io.Reader) {
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, event.MaxLine)
	for lines.Scan() {
		e, err := event.Decode(lines.Bytes())
		if b, ok := e.Body.(*event.IncidentFinding); err == nil && ok && e.Type == event.IncidentOpened {
			select {
			case s.named <- b.Incident:
			default:
			}
		}
	}
}

func startGenerator(t *testing.T, plan simPlan) *generator {
	text, err := json.Marshal(plan)
	if err != nil {
		t.Fatal(err)
	}
	// The hub would have a machine of its own: who plays the others must not take the processor from it.
	g := &generator{cmd: exec.Command("nice", "-n", "5", os.Args[0], "-test.run", "^TestFleetGenerator$"), report: make(chan simReport, 1)}
	g.cmd.Env = append(os.Environ(), "MIDHOP_SCALE_GENERATOR="+string(text), "GOGC=400")
	g.cmd.Stderr = os.Stderr
	if g.in, err = g.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := g.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.cmd.Process.Kill(); _ = g.cmd.Wait() })
	go func() {
		defer close(g.report)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var r simReport
			if text, ok := strings.CutPrefix(lines.Text(), "report "); ok && json.Unmarshal([]byte(text), &r) == nil {
				g.report <- r
			} else if strings.Contains(lines.Text(), "FAIL") || strings.Contains(lines.Text(), ".go:") {
				fmt.Fprintln(os.Stderr, lines.Text())
			}
		}
	}()
	return g
}

// tell says a word to every generator.
func (s *scale) tell(word string) {
	for _, g := range s.generators {
		_, _ = io.WriteString(g.in, word+"\n")
	}
}

// end ends the generators and adds up what they did.
func (s *scale) end() (sum simReport) {
	s.tell("end")
	for i, g := range s.generators {
		select {
		case r, ok := <-g.report:
			if !ok {
				s.t.Errorf("generator %d ended without a report", i)
			}
			sum.Acked, sum.Dropped, sum.Waiting, sum.Sent, sum.CPU = sum.Acked+r.Acked, sum.Dropped+r.Dropped, sum.Waiting+r.Waiting, sum.Sent+r.Sent, sum.CPU+r.CPU
			sum.Late, sum.LateThen = max(sum.Late, r.Late), max(sum.LateThen, r.LateThen)
		case <-time.After(60 * time.Second):
			s.t.Errorf("generator %d does not end", i)
		}
	}
	return sum
}

// lost asks the hub's metrics for what is known to be lost.
func (s *scale) lost() (sum float64) {
	resp, err := http.Get("http://" + s.metrics + "/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	found := false
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if text := lines.Text(); strings.HasPrefix(text, "midhop_events_lost_total") {
			n, err := strconv.ParseFloat(text[strings.LastIndexByte(text, ' ')+1:], 64)
			if err != nil {
				s.t.Fatal(err)
			}
			if n > 0 {
				s.t.Log(text)
			}
			sum, found = sum+n, true
		}
	}
	if !found {
		s.t.Error("the hub does not say what is lost")
	}
	return sum
}

// usageOf is a process's CPU seconds so far and the most memory that it had resident.
func usageOf(pid int) (cpu float64, most int64) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0
	}
	f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+2:]))
	user, _ := strconv.ParseFloat(f[11], 64) // utime, stime in USER_HZ, which is 100: proc(5)
	system, _ := strconv.ParseFloat(f[12], 64)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(status)) {
		if text, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, _ := strconv.ParseInt(strings.Fields(text)[0], 10, 64)
			most = kb << 10
		}
	}
	return (user + system) / 100, most
}

func dirSize(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			if info, err := d.Info(); err == nil {
				n += info.Size()
			}
		}
		return nil
	})
	return n
}
