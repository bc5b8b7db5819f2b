package fleet

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// BenchmarkPublish is an agent's batch, from its account to the stream's acknowledgement.
func BenchmarkPublish(b *testing.B) {
	d := embeddedDoor(b, false)
	nc := d.knock(b, "secret-a", nats.CustomInboxPrefix(agentInbox("node-a")))
	m := nats.NewMsg(subjectFacts + "node-a")
	m.Header.Set(headerOrigin, "bench")
	m.Data = make([]byte, 512)
	b.ResetTimer()
	for range b.N {
		if _, err := nc.RequestMsg(m, patience); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAgents is what agents cost an embedded server while they stand there: memory of the whole process in B/agent, the
// clients' halves included.
func BenchmarkAgents(b *testing.B) {
	for _, n := range []int{500, 3000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var list strings.Builder
			for i := range n {
				fmt.Fprintf(&list, "agent node-%d secret-%d\n", i, i)
			}
			tokens, err := ReadTokens(strings.NewReader(list.String()))
			if err != nil {
				b.Fatal(err)
			}
			s, err := StartServer(ServerOptions{Listen: "127.0.0.1:0", Dir: filepath.Join(b.TempDir(), "s"), Auth: tokens, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			heap := func() uint64 {
				runtime.GC()
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				return m.HeapAlloc
			}
			before := heap()
			for i := range n { // the accounts alone: what connections cost is the same without
				if _, err := s.accounts.of(Identity{Role: RoleAgent, Node: fmt.Sprintf("node-%d", i)}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(heap()-before)/float64(n), "B/account")
			var all []*nats.Conn
			for i := range n {
				nc, err := nats.Connect("nats://"+s.Address(), nats.Token(fmt.Sprintf("secret-%d", i)), nats.Timeout(time.Minute))
				if err != nil {
					b.Fatal(err)
				}
				all = append(all, nc)
			}
			b.ReportMetric(float64(heap()-before)/float64(n), "B/agent")
			for _, nc := range all {
				nc.Close()
			}
		})
	}
}
