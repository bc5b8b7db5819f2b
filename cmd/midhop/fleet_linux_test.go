package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/lab"
)

// fleetLab is a lab whose agents publish to a hub on a machine of its own.
type fleetLab struct {
	t       *testing.T
	cluster *lab.Cluster
	hubArgv []string
	hub     *lab.HubProcess

	mu      sync.Mutex
	said    []event.Event // by the API so far
	facts   *os.File      // to the hub that runs
	events  []event.Event // of the hub that runs, facts included
	changed chan struct{}
	nodes   []string // that have booted so far
	reader  []string // flags of a reader on the hub's machine
}

// startFleet builds the lab. Agents come up before there is a hub, so what they see first has to wait for it.
func startFleet(t *testing.T, o lab.Options) *fleetLab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("the lab makes network namespaces: needs root")
	}
	dir := t.TempDir()
	addr := lab.HubAddr(o.Family)
	cert, key := writeCertificate(t, dir, net.IP(addr.AsSlice()))
	file := filesIn(t, dir)
	f := &fleetLab{t: t, changed: make(chan struct{}, 1)}
	tokens := file("tokens", "reader test token-of-reader\n")
	url := "tls://" + net.JoinHostPort(addr.String(), "4222")
	o.Hub, o.Child = true, []string{binary, "lab-node"}
	o.AgentArgv = func(node string) []string {
		f.mu.Lock()
		defer f.mu.Unlock()
		secret := filepath.Join(dir, "token-"+node)
		if !slices.Contains(f.nodes, node) { // a node that boots again keeps its token
			f.nodes = append(f.nodes, node)
			file("token-"+node, "token-of-"+node+"\n")
			list := "reader test token-of-reader\n"
			for _, n := range f.nodes {
				list += "agent " + n + " token-of-" + n + "\n"
			}
			file("tokens", list)
		}
		return []string{binary, "agent", "--node", node, "--hub", url, "--hub-token", secret, "--hub-ca", cert}
	}
	f.hubArgv = []string{
		binary, "hub", "--listen", strings.TrimPrefix(url, "tls://"), "--tls-cert", cert, "--tls-key", key, "--tokens", tokens,
		"--dir", filepath.Join(dir, "streams"), "--facts", "/dev/fd/3", "-o", "jsonl", "--complete",
	}
	f.reader = []string{"--hub", url, "--hub-token", file("token-reader", "token-of-reader"), "--hub-ca", cert}
	var err error
	f.cluster, err = lab.Start(t.Context(), o, slog.New(slog.NewTextHandler(&testLog{t: t}, &slog.HandlerOptions{Level: slog.LevelInfo})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.cluster.Close(); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	go func() { _ = f.cluster.API().Run(ctx, f.apiSays) }()
	return f
}

// testLog writes a log's lines to a test's.
type testLog struct {
	t  *testing.T
	mu sync.Mutex
}

func (l *testLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.t.Context().Err() == nil {
		l.t.Log(strings.TrimSpace(string(b)))
	}
	return len(b), nil
}

// apiSays hands what the lab's API says to the hub, and keeps it for the next one.
func (f *fleetLab) apiSays(batch []event.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.said = append(f.said, batch...)
	f.tellHub(batch)
}

func (f *fleetLab) tellHub(batch []event.Event) {
	if f.facts == nil {
		return
	}
	var b []byte
	for i := range batch {
		b = append(event.AppendJSON(b, &batch[i]), '\n')
	}
	_, _ = f.facts.Write(b) // a hub that was killed does not read
}

// startHub starts a hub over the streams that there are.
func (f *fleetLab) startHub() {
	f.t.Helper()
	out, outW, err := os.Pipe()
	if err != nil {
		f.t.Fatal(err)
	}
	defer outW.Close()
	in, inW, err := os.Pipe()
	if err != nil {
		f.t.Fatal(err)
	}
	defer in.Close()
	if f.hub, err = f.cluster.StartHub(f.hubArgv, outW, in); err != nil {
		f.t.Fatal(err)
	}
	f.mu.Lock()
	f.events, f.facts = nil, inW
	f.tellHub(f.said)
	f.mu.Unlock()
	go f.read(out)
}

func (f *fleetLab) read(out *os.File) {
	defer out.Close()
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, event.MaxLine)
	for lines.Scan() {
		e, err := event.Decode(lines.Bytes())
		if err != nil {
			f.t.Errorf("the hub wrote %q: %v", lines.Text(), err)
			continue
		}
		f.mu.Lock()
		f.events = append(f.events, e)
		f.mu.Unlock()
		select {
		case f.changed <- struct{}{}:
		default:
		}
	}
}

// ask runs a command as a reader on the hub's machine and returns what it wrote.
func (f *fleetLab) ask(args ...string) string {
	f.t.Helper()
	out, err := os.Create(filepath.Join(f.t.TempDir(), "out"))
	if err != nil {
		f.t.Fatal(err)
	}
	defer out.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		f.t.Fatal(err)
	}
	defer null.Close()
	p, err := f.cluster.StartHub(slices.Concat([]string{binary}, args, f.reader), out, null)
	if err != nil {
		f.t.Fatal(err)
	}
	select {
	case <-p.Done():
	case <-time.After(hang):
		f.t.Fatalf("%q does not end", args)
	}
	text, err := os.ReadFile(out.Name())
	if err != nil {
		f.t.Fatal(err)
	}
	return string(text)
}

// killHub ends the hub without a goodbye.
func (f *fleetLab) killHub() {
	f.t.Helper()
	if err := f.hub.Kill(); err != nil {
		f.t.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.facts.Close()
	f.facts = nil
}

// await waits until the events of the hub that runs satisfy ok.
func (f *fleetLab) await(what string, within time.Duration, ok func([]event.Event) bool) {
	f.t.Helper()
	start := time.Now()
	late := time.NewTimer(within)
	defer late.Stop()
	for {
		f.mu.Lock()
		events := slices.Clip(f.events)
		f.mu.Unlock()
		if ok(events) {
			f.t.Logf("%s after %.1f s", what, time.Since(start).Seconds())
			return
		}
		select {
		case <-f.changed:
		case <-f.hub.Done():
			f.t.Fatalf("the hub ended while waiting for: %s", what)
		case <-late.C:
			f.t.Fatalf("not within %s: %s\n%s", within, what, f.summary(events))
		}
	}
}

func (f *fleetLab) summary(events []event.Event) string {
	var b strings.Builder
	count := make(map[string]int)
	for _, e := range events {
		count[e.Source+" "+e.Type.String()]++
		switch body := e.Body.(type) {
		case *event.Lost:
			fmt.Fprintf(&b, "lost %s %+v\n", e.Source, *body)
		case *event.IncidentFinding:
			fmt.Fprintf(&b, "%s %s %s %q %+v clients %+v\n", e.Time.Format(time.StampMilli), e.Type, body.Incident.ID, body.Incident.Title, body.Incident.Sockets, body.Incident.Clients)
			for _, v := range body.Incident.Evidence {
				fmt.Fprintf(&b, "    %s\n", v.Text)
			}
		case *event.Gap:
			fmt.Fprintf(&b, "%s gap %+v\n", e.Time.Format(time.StampMilli), *body)
		}
	}
	fmt.Fprintln(&b, count)
	return b.String()
}

// heardAll says whether every agent was heard lately.
func heardAll(since time.Time, agents ...string) func([]event.Event) bool {
	return func(events []event.Event) bool {
		missing := slices.Clone(agents)
		for _, e := range slices.Backward(events) {
			if e.Type == event.StreamHeartbeat && e.Time.After(since) {
				missing = slices.DeleteFunc(missing, func(a string) bool { return a == e.Source })
			}
		}
		return len(missing) == 0
	}
}

// lastIncident returns the newest finding about an incident, and how many incidents there are.
func lastIncident(events []event.Event) (last event.Incident, ids []string) {
	for _, e := range events {
		if b, ok := e.Body.(*event.IncidentFinding); ok {
			last = b.Incident
			if !slices.Contains(ids, last.ID) {
				ids = append(ids, last.ID)
			}
		}
	}
	return last, ids
}

// TestFleetNamesTheDeadNode is the whole of it: agents on their nodes, the hub on a machine of its own, NATS with TLS and
// tokens between them. The node that died, and the clients of its victims, are named after it and its agent have gone;
// the hub is killed and comes back to the same incident; a partition heals; and every event is accounted for.
func TestFleetNamesTheDeadNode(t *testing.T) {
	t.Parallel()
	o := lab.Defaults()
	o.Connections, o.Duration = 100, 10*time.Minute
	f := startFleet(t, o)
	f.startHub()
	f.await("all agents heard", hang, heardAll(f.cluster.Up(), "agent/node-a", "agent/node-b", "agent/node-c"))
	f.killHub()
	f.startHub()
	f.await("all agents heard by the second hub", hang, heardAll(time.Now(), "agent/node-a", "agent/node-b", "agent/node-c"))
	f.await("sockets known", hang, func(events []event.Event) bool {
		n := 0
		for _, e := range events {
			if b, ok := e.Body.(*event.Sockets); ok {
				n += len(b.Rows)
			}
		}
		return n >= 100
	})
	fault, err := f.cluster.Fault(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var named event.Incident
	f.await("the node is named", 10*time.Second, func(events []event.Event) bool {
		var ids []string
		named, ids = lastIncident(events)
		return len(ids) > 0
	})
	t.Logf("named %v after the fault: %q", named.Opened.Sub(fault.Time), named.Title)
	f.await("its victims' clients are named", 10*time.Second, func(events []event.Event) bool {
		named, _ = lastIncident(events)
		return named.Clients.Total > 0
	})
	t.Logf("clients %+v of %+v", named.Clients, named.Sockets)

	f.killHub()
	f.startHub()
	f.await("the third hub has the incident", hang, func(events []event.Event) bool {
		again, ids := lastIncident(events)
		return len(ids) == 1 && ids[0] == named.ID && again.Clients.Total >= named.Clients.Total
	})

	if err := f.cluster.CutHub(true); err != nil {
		t.Fatal(err)
	}
	time.Sleep(6 * time.Second) // the length of the partition is what is tested, not waited for
	healed := time.Now()
	if err := f.cluster.CutHub(false); err != nil {
		t.Fatal(err)
	}
	f.await("the living agents are back", hang, heardAll(healed, "agent/node-b", "agent/node-c"))
	f.await("its verdict stands", hang, func(events []event.Event) bool {
		return events[len(events)-1].Time.After(healed.Add(14 * time.Second))
	})

	f.mu.Lock()
	events := f.events
	f.mu.Unlock()
	last, ids := lastIncident(events)
	if len(ids) != 1 || last.Rule != "node-gone" || last.Culprit.Kind != event.CulpritNode || last.Culprit.Name != "node-a" || last.Culprit.Sure != event.Proved {
		t.Errorf("after all of it: %d incidents, the last %s %+v", len(ids), last.Rule, last.Culprit)
	}
	if last.Clients.Total < last.Sockets.Crossing*9/10 {
		t.Errorf("%d clients known of %d connections", last.Clients.Total, last.Sockets.Crossing)
	}
	if last.Closed.OK {
		t.Errorf("closed: %s", last.Why)
	}
	for _, e := range events {
		if b, ok := e.Body.(*event.Lost); ok {
			t.Errorf("%s lost %+v", e.Source, *b)
		}
	}
	t.Log(f.summary(events))
	f.readersAgree(last)
}

// readersAgree asks the hub from elsewhere: its list of incidents, and a recording that is cut from its stream, which has
// to prove itself like any other.
func (f *fleetLab) readersAgree(want event.Incident) {
	t := f.t
	var list struct{ Incidents []event.Incident }
	if text := f.ask("incidents", "-o", "json"); json.Unmarshal([]byte(text), &list) != nil || len(list.Incidents) != 1 || list.Incidents[0].ID != want.ID {
		t.Errorf("midhop incidents says %s, want the one incident %s", text, want.ID)
	}
	if text := f.ask("via"); !strings.Contains(text, "node-a") {
		t.Errorf("midhop via does not know node-a:\n%s", text)
	}
	cut := filepath.Join(t.TempDir(), "cut.jsonl")
	f.ask("record", "--since", "5m", cut)
	out, err := exec.Command(binary, "replay", cut, "--verify").CombinedOutput()
	if err != nil {
		t.Errorf("the recording that was cut from the hub does not prove itself: %v\n%s", err, out)
	}
	recorded, err := os.ReadFile(cut)
	if err != nil || !strings.Contains(string(recorded), want.ID) || !strings.Contains(string(recorded), "nat.recalled") {
		t.Errorf("the recording of %d bytes does not hold the incident and its recalled ledger (%v)", len(recorded), err)
	}
}

// writeCertificate makes a certificate for one address, which is its own authority.
func writeCertificate(t *testing.T, dir string, ip net.IP) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "midhop-hub"}, IPAddresses: []net.IP{ip},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "EC PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// TestFleetAsks: a hub that may ask the suspect, of which it hears no agent, knows from its silence that it is gone.
func TestFleetAsks(t *testing.T) {
	t.Parallel()
	o := lab.Defaults()
	o.Connections, o.Duration, o.Agents = 100, 10*time.Minute, []int{2, 3}
	f := startFleet(t, o)
	f.hubArgv = append(f.hubArgv, "--ask")
	f.startHub()
	f.await("both agents heard", hang, heardAll(f.cluster.Up(), "agent/node-b", "agent/node-c"))
	f.await("sockets known", hang, func(events []event.Event) bool {
		return slices.ContainsFunc(events, func(e event.Event) bool { return e.Type == event.PathSockets })
	})
	if _, err := f.cluster.Fault(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.await("proof by silence", hang, func(events []event.Event) bool {
		last, ids := lastIncident(events)
		return len(ids) == 1 && last.Rule == "node-gone" && last.Culprit.Name == "node-a" && last.Culprit.Sure == event.Proved
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	asked := 0
	for _, e := range f.events {
		if b, ok := e.Body.(*event.Asked); ok {
			asked++
			if b.Asked.Node != "node-a" || b.Asked.Answer != event.AnswerNone || b.Control == nil || !b.Control.Answer.Lives() || e.Source != "hub" {
				t.Errorf("%s says %+v, control %+v", e.Source, b.Asked, b.Control)
			}
		}
	}
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
}

// TestFleetJudgesTheLivingToo breaks what living nodes translate, or what stands behind it. A lost table is named, and so is a
// service whose address has moved, for which the hub asks the old node's ledger; clients that are gone, for which it asks the
// ledgers of the nodes before them; and a pod that is gone, of which the callers' own node tells. A node that is healthy may at no
// time be named.
func TestFleetJudgesTheLivingToo(t *testing.T) {
	for _, scenario := range []string{"nat-lost", "vip-moved", "client-gone", "pod-gone"} {
		t.Run(scenario, func(t *testing.T) {
			t.Parallel()
			o := lab.Defaults()
			o.Scenario, o.Connections, o.Duration = scenario, 100, 10*time.Minute
			f := startFleet(t, o)
			f.startHub()
			f.await("all agents heard", hang, heardAll(f.cluster.Up(), "agent/node-a", "agent/node-b", "agent/node-c"))
			if _, err := f.cluster.Fault(t.Context()); err != nil {
				t.Fatal(err)
			}
			want := f.cluster.Expected()[0]
			f.await("a verdict", hang, func(events []event.Event) bool {
				last, _ := lastIncident(events)
				return last.Rule == want.Rule && string(last.Culprit.Kind) == want.Kind && last.Culprit.Name == want.Name
			})
			f.mu.Lock()
			defer f.mu.Unlock()
			for _, e := range f.events {
				if b, ok := e.Body.(*event.IncidentFinding); ok {
					in := b.Incident
					t.Logf("%s %s on %s %s: %s", e.Type, in.Rule, in.Culprit.Kind, in.Culprit.Name, in.Title)
					if in.Culprit.Kind == event.CulpritNode && (want.Kind != "node" || in.Culprit.Name != want.Name) {
						t.Errorf("%s is named: %s", in.Culprit.Name, in.Title)
					}
				}
			}
		})
	}
}
