package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/midhop/midhop/tracer"
	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/fleet"
	"github.com/midhop/midhop/tracer/report"
	"github.com/midhop/midhop/tracer/source/kube"
	"github.com/midhop/midhop/tracer/source/stream"
)

// show reads the pods' streams, names what they tell by the API, and shows it until the user leaves or all of them end.
func (p *probe) show(ctx context.Context, kind string, keep func(*event.Event) bool) error {
	ranges, err := parseRanges(p.opts.lb)
	if err != nil {
		return err
	}
	log := p.log
	words := &agentWords{w: os.Stderr}
	if kind == outScreen { // words in the middle of a screen are not to be read
		words = &agentWords{later: os.Stderr}
		words.w = &words.held
		log = slog.New(slog.DiscardHandler)
	}
	defer words.close()
	engine := tracer.New(tracer.Options{
		Live: true, Source: "probe", Log: log,
		Started: &event.Started{Midhop: build(), Host: fleet.ThisHost(""), Complete: true, Balancers: ranges},
	})
	names := kube.Options{Config: p.access.Config, Namespace: p.names, Log: log, Details: details(log)}
	if len(p.run.Nodes) == 1 {
		names.Node = p.run.Nodes[0] // nobody needs all pods of a large cluster to name those of one node
	}
	api, err := kube.New(names)
	if err != nil {
		return err
	}
	engine.AddSource("kubernetes", api)
	suspicions{api}.attach(engine)
	pods := &podStreams{probe: p, words: words, ended: make(chan struct{})}
	engine.AddSource("pods", pods)

	out, err := newOutput(engine, kind, outputOptions{complete: p.opts.complete, keep: keep, ascii: p.opts.ascii, title: "probe " + strings.Join(p.running, " ")})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(guard(func() error {
		folding, stop := context.WithCancel(ctx)
		defer stop()
		go func() { // with no stream left nothing more is seen: time must not go on without facts
			<-pods.ended
			stop()
		}()
		err := engine.Run(folding)
		if kind != outScreen || err != nil {
			cancel()
		}
		return err
	}))
	g.Go(func() error { defer cancel(); return out.run(ctx) })
	err = g.Wait()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	if closeErr := out.close(); err == nil {
		err = closeErr
	}
	if lost := pods.lost(); err == nil {
		err = lost
	}
	return quiet(err)
}

// podStreams is the source of what the pods tell.
type podStreams struct {
	probe *probe
	words *agentWords
	ended chan struct{} // no stream is left

	mu   sync.Mutex
	errs []error // why streams have ended before they were told to
}

// Run implements tracer.Source.
func (s *podStreams) Run(ctx context.Context, emit func([]event.Event)) error {
	defer close(s.ended)
	var one sync.Mutex // over emit
	var wg sync.WaitGroup
	for _, node := range s.probe.running {
		wg.Go(func() {
			err := s.follow(ctx, node, func(batch []event.Event) {
				one.Lock()
				defer one.Unlock()
				emit(batch)
			})
			if ctx.Err() != nil {
				return
			}
			if err == nil {
				err = errors.New("the agent has ended")
			}
			s.probe.log.Warn("nothing more is seen of a node", "node", node, "error", err)
			s.mu.Lock()
			defer s.mu.Unlock()
			s.errs = append(s.errs, fmt.Errorf("%s: %w", node, cleanError{err}))
		})
	}
	wg.Wait()
	return nil
}

// follow attaches to a node's pod and reads what it tells. Its input opens with a line, at which the agent begins: what it
// tells first would be lost if it began before it was listened to.
func (s *podStreams) follow(ctx context.Context, node string, emit func([]event.Event)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	in, begin := io.Pipe()
	out, told := io.Pipe()
	defer in.Close()
	defer out.Close()
	go func() { // ends when the pipe is closed, at the latest
		_, _ = begin.Write([]byte("\n"))
		<-ctx.Done()
		_ = begin.Close()
	}()
	attached := make(chan error, 1)
	go func() {
		err := s.probe.api.Attach(ctx, &s.probe.run, node, in, told, s.words.of(node))
		_ = told.Close()
		attached <- err
	}()
	err := stream.New(out, stream.Options{Bad: func(bad *stream.LineError) {
		s.probe.log.Warn("a line of an agent cannot be used", "node", node, "error", bad)
	}}).Run(ctx, func(batch []event.Event) {
		if batch = ownWord(node, batch); len(batch) > 0 {
			emit(batch)
		}
	})
	cancel()
	_ = in.Close()
	_ = out.Close()
	if why := <-attached; why != nil && !errors.Is(why, context.Canceled) {
		err = why
	}
	return err
}

// ownWord keeps what a node's agent may say: its own facts, and of nodes, pods and services only of its own node. Whoever has
// taken over a node must not be able to speak for others.
func ownWord(node string, batch []event.Event) []event.Event {
	source := "agent/" + node
	return slices.DeleteFunc(batch, func(e event.Event) bool {
		switch b := e.Body.(type) {
		case *event.PodFact, *event.ServiceFact:
			return true
		case *event.NodeFact:
			return e.Source != source || b.Node.Name != node || b.What != "agent"
		}
		return e.Source != source
	})
}

// lost says that streams have ended by themselves: as an error where all have, else in passing.
func (s *podStreams) lost() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.errs) == len(s.probe.running) {
		return lostError{errors.Join(s.errs...)}
	}
	for _, err := range s.errs {
		fmt.Fprintf(os.Stderr, "midhop: nothing more was seen of %v\n", err)
	}
	return nil
}

// lostError is the end of all streams.
type lostError struct{ err error }

func (e lostError) Error() string  { return "every stream has ended: " + e.err.Error() }
func (e lostError) Unwrap() error  { return e.err }
func (e lostError) Effect() string { return "nothing more is seen; what was shown is of before that" }
func (e lostError) Remedy() string {
	return "start it again; that a connection to a node ends is no proof that the node is at fault"
}

// agentWords is what agents say on their standard error, line by line and with the node's name; at most agentWordsMax bytes
// of it while it waits for the end of a screen.
type agentWords struct {
	mu    sync.Mutex
	w     io.Writer
	later io.Writer
	held  bytes.Buffer
}

const agentWordsMax = 16 << 10

func (a *agentWords) of(node string) io.Writer { return &nodeWords{all: a, node: node} }

func (a *agentWords) say(node string, line []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.later != nil && a.held.Len() > agentWordsMax {
		return
	}
	fmt.Fprintf(a.w, "%s: %s\n", node, report.Clean(string(line)))
}

func (a *agentWords) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.later != nil {
		_, _ = a.held.WriteTo(a.later)
	}
}

// nodeWords are those of one node.
type nodeWords struct {
	all  *agentWords
	node string
	rest []byte
}

// Write implements io.Writer.
func (n *nodeWords) Write(b []byte) (int, error) {
	n.rest = append(n.rest, b...)
	for {
		line, rest, ok := bytes.Cut(n.rest, []byte("\n"))
		if !ok {
			break
		}
		n.all.say(n.node, line)
		n.rest = rest
	}
	if len(n.rest) > 4096 {
		n.rest = n.rest[:0] // no line of ours
	}
	return len(b), nil
}
