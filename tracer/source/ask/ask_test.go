package ask

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

var (
	suspect = Address{"node-a", netip.MustParseAddr("192.0.2.1")}
	asker   = Address{"node-b", netip.MustParseAddr("192.0.2.2")}
	healthy = Address{"node-c", netip.MustParseAddr("192.0.2.3")}
)

// network is machines that answer after a while, or never.
type network struct {
	answers map[netip.Addr]func() error
	delay   map[netip.Addr]time.Duration

	mu    sync.Mutex
	asked []netip.AddrPort
}

func (n *network) dial(ctx context.Context, to netip.AddrPort) error {
	n.mu.Lock()
	n.asked = append(n.asked, to)
	n.mu.Unlock()
	f := n.answers[to.Addr()]
	if f == nil {
		<-ctx.Done()
		return &net.OpError{Op: "dial", Err: ctx.Err()}
	}
	time.Sleep(n.delay[to.Addr()])
	return f()
}

func answering(err error) func() error { return func() error { return err } }

// run asks until there are as many facts as questions that were taken.
func (n *network) run(t *testing.T, questions ...Question) []event.Asked {
	t.Helper()
	s := New(Options{Choose: func(from []string) (string, Dialer) { return from[0], n.dial }})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	var facts []event.Asked
	go func() {
		defer close(done)
		err := s.Run(ctx, func(batch []event.Event) {
			for _, e := range batch {
				if e.Type != event.NodeAsked || e.Time.IsZero() {
					t.Errorf("a fact of type %s at %s", e.Type, e.Time)
				}
				facts = append(facts, *e.Body.(*event.Asked))
			}
		})
		if err != nil {
			t.Error(err)
		}
	}()
	for _, q := range questions {
		s.Ask(q)
	}
	time.Sleep(2 * patience)
	cancel()
	<-done
	return facts
}

func ask(node Address) Question {
	return Question{Node: node, Healthy: []Address{asker, node, healthy}, From: []string{asker.Node}}
}

// TestAnswers: what connections come to, and that a healthy node is asked only where the suspect keeps silent.
func TestAnswers(t *testing.T) {
	refused := &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	for _, c := range []struct {
		name             string
		suspect, healthy func() error
		slow             time.Duration
		want             event.Answer
		control          event.Answer // empty: not asked
	}{
		{name: "accepts", suspect: answering(nil), want: event.AnswerAccepted},
		{name: "refuses", suspect: answering(refused), want: event.AnswerRefused},
		{name: "silent", healthy: answering(refused), want: event.AnswerNone, control: event.AnswerRefused},
		{name: "all silent", want: event.AnswerNone, control: event.AnswerNone},
		{name: "slow", suspect: answering(nil), slow: silence + 100*time.Millisecond, healthy: answering(nil), want: event.AnswerAccepted, control: event.AnswerAccepted},
		{name: "no route", suspect: answering(syscall.ENETUNREACH), want: event.AnswerFailed},
		{name: "a router says no", suspect: answering(syscall.EHOSTUNREACH), want: event.AnswerFailed},
		{name: "not allowed", suspect: answering(syscall.EPERM), want: event.AnswerFailed},
		{name: "the kernel's own patience", suspect: answering(syscall.ETIMEDOUT), want: event.AnswerNone},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &network{answers: map[netip.Addr]func() error{suspect.IP: c.suspect, healthy.IP: c.healthy, asker.IP: answering(nil)},
					delay: map[netip.Addr]time.Duration{suspect.IP: c.slow}}
				facts := n.run(t, ask(suspect))
				if len(facts) != 1 {
					t.Fatalf("%d facts", len(facts))
				}
				f := facts[0]
				if f.Asked.Node != "node-a" || f.Asked.Answer != c.want || f.Asked.To != (event.Endpoint{IP: suspect.IP, Port: DefaultPort}) || f.By.Node != asker.Node {
					t.Errorf("said %+v by %q, want %s", f.Asked, f.By.Node, c.want)
				}
				if (f.Asked.Error != "") != (c.want == event.AnswerFailed) {
					t.Errorf("error %q", f.Asked.Error)
				}
				if c.want == event.AnswerNone && c.suspect == nil && f.Asked.Took.Duration() != patience {
					t.Errorf("waited for %s", f.Asked.Took)
				}
				got := event.Answer("")
				if f.Control != nil {
					got = f.Control.Answer
					if f.Control.Node != healthy.Node {
						t.Errorf("%s was asked beside", f.Control.Node)
					}
				}
				if got != c.control {
					t.Errorf("control %q, want %q", got, c.control)
				}
				wanted := 1
				if c.control != "" {
					wanted = 2
				}
				if len(n.asked) != wanted || n.asked[0].Addr() != suspect.IP {
					t.Errorf("connections to %v", n.asked)
				}
			})
		})
	}
}

// TestNotTooOften: a judge asks again and again; a node gets one connection in a while, and few nodes do at a time.
func TestNotTooOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{}
		var many []Question
		for i := range 100 {
			a := Address{fmt.Sprint("node-", i%20), netip.AddrFrom4([4]byte{192, 0, 2, byte(100 + i%20)})}
			many = append(many, Question{Node: a, From: []string{"node-b"}})
		}
		facts := n.run(t, many...)
		if len(facts) != most || len(n.asked) != most {
			t.Errorf("%d facts of %d connections, want %d", len(facts), len(n.asked), most)
		}
		slices.SortFunc(n.asked, netip.AddrPort.Compare)
		if same := len(n.asked) - len(slices.Compact(n.asked)); same != 0 {
			t.Errorf("%d nodes were asked twice", same)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		n := &network{answers: map[netip.Addr]func() error{suspect.IP: answering(nil)}}
		s := New(Options{Choose: func([]string) (string, Dialer) { return "", n.dial }})
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _ = s.Run(ctx, func([]event.Event) {}) }()
		for range 100 {
			s.Ask(ask(suspect))
			time.Sleep(again / 20)
		}
		cancel()
		synctest.Wait()
		if len(n.asked) != 5 {
			t.Errorf("%d connections in %s", len(n.asked), 5*again)
		}
	})
}

// TestDial: real connections from this machine.
func TestDial(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	to := netip.MustParseAddrPort(l.Addr().String())
	if err := Dial(t.Context(), to); answerOf(err) != event.AnswerAccepted {
		t.Errorf("a listener: %v", err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("the connection says %d bytes, %v", n, err)
	}
	l.Close()
	if err := Dial(t.Context(), to); answerOf(err) != event.AnswerRefused {
		t.Errorf("nobody there: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Dial(ctx, to); errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("called off: %v", err)
	}
}
