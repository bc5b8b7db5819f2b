//go:build unix

package fleet

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/midhop/midhop/tracer/event"
)

// hubDir is set in the process that TestHubKilled kills.
const hubDir = "MIDHOP_TEST_HUB_DIR"

// TestHubProcess is a hub that says where it listens when it has read what there was.
func TestHubProcess(t *testing.T) {
	dir := os.Getenv(hubDir)
	if dir == "" {
		t.Skip("it is run by TestHubKilled")
	}
	tokens, err := ReadTokens(strings.NewReader(tokenList))
	if err != nil {
		t.Fatal(err)
	}
	s, err := StartServer(ServerOptions{Listen: os.Getenv(hubDir + "_AT"), Dir: dir, Auth: tokens, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.Dial()
	if err != nil {
		t.Fatal(err)
	}
	h, err := NewHub(t.Context(), c, HubOptions{Fold: nobody{}})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		<-h.Live()
		fmt.Println("live", s.Address())
	}()
	_ = h.Run(context.Background(), func([]event.Event) {})
}

// TestHubKilled kills a hub at ten moments of a flood, on a store with messages that are forged, damaged and foreign. It starts
// again each time, and has all that an honest agent told, once.
func TestHubKilled(t *testing.T) {
	dir := t.TempDir()
	w := &world{t: t, dir: dir}
	tokens, err := ReadTokens(strings.NewReader(tokenList))
	if err != nil {
		t.Fatal(err)
	}
	w.start(tokens)
	w.newHub(nobody{})
	for range 20 {
		for _, subject := range []string{subjectHub, subjectIncidents, subjectFacts + "node-b_example", subjectLedger + "node-b_example"} {
			w.puts(&nats.Msg{Subject: subject})
			w.puts(&nats.Msg{Subject: subject, Data: []byte("damaged")})
			w.puts(&nats.Msg{Subject: subject, Data: line(heartbeat("kube", 1)), Header: nats.Header{natsSequence: {"9"}, headerProof: {"AAAA"}}})
		}
	}
	at := w.server.Address()
	w.hub.Close()
	w.server.Close()

	var running *exec.Cmd
	start := func() {
		t.Helper()
		running = exec.Command(os.Args[0], "-test.run", "^TestHubProcess$", "-test.timeout", "10m")
		running.Env = append(os.Environ(), hubDir+"="+filepath.Join(dir, "streams"), hubDir+"_AT="+at)
		out, err := running.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		if err := running.Start(); err != nil {
			t.Fatal(err)
		}
		for in := bufio.NewScanner(out); in.Scan(); {
			if strings.HasPrefix(in.Text(), "live ") {
				if took := time.Since(begun); took > time.Minute {
					t.Errorf("it is live after %s", took)
				}
				return
			}
			t.Log(in.Text())
		}
		t.Fatal("the hub does not start")
	}
	kill := func() {
		_ = running.Process.Kill()
		_ = running.Wait()
	}
	t.Cleanup(func() { kill() })
	start()
	dial := func(node, secret string) *Conn {
		c, err := Dial(DialOptions{URL: "nats://" + at, Token: func() (string, error) { return secret, nil }, Node: node})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
	honest := startPublisher(t, dial("node-a", "secret-a"), PublishOptions{Node: "node-a", Delay: time.Millisecond})
	stop := make(chan struct{})
	flooded := make(chan struct{})
	mad := dial("node-b.example", "secret-b")
	go func() { // a flood of another agent's, of which nothing can be read
		defer close(flooded)
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			m := nats.NewMsg(subjectFacts + token("node-b.example"))
			m.Header.Set(headerOrigin, "mad")
			m.Data = []byte("no batch")
			_ = mad.nc.PublishMsg(m) // while the hub is away it goes nowhere
			if n%5 == 0 {
				time.Sleep(time.Millisecond) // 5,000 a second at most
			}
		}
	}()
	told := uint64(0)
	for range 10 {
		for until := time.Now().Add(time.Duration(rand.IntN(700)) * time.Millisecond); time.Now().Before(until); {
			told++
			honest.Write([]event.Event{heartbeat("agent/node-a", told)})
			time.Sleep(2 * time.Millisecond)
		}
		kill()
		start()
		t.Logf("killed after %d events", told)
	}
	close(stop)
	<-flooded
	until(t, "acknowledged", func() bool { return honest.Stats().Facts.Acked >= told && honest.Stats().Facts.Waiting == 0 })
	kill()

	w.start(tokens)
	seen := make(map[uint64]int)
	in, err := newIntake(event.Build{})
	if err != nil {
		t.Fatal(err)
	}
	in.proof = newProof(w.newHub(nobody{}).public())
	for _, m := range w.stored(StreamFacts, allFacts) {
		for _, e := range in.take(&m) {
			if e.Source == "agent/node-a" {
				seen[e.ID.N]++
			}
		}
	}
	for n := uint64(1); n <= told; n++ {
		if seen[n] != 1 {
			t.Fatalf("event %d of %d was folded %d times; %s", n, told, seen[n], in.Stats())
		}
	}
	t.Logf("%d events told; %s", told, in.Stats())
}
