package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/kubeaccess"
)

// playAgent tells what an agent on a node would, over and over: itself, its heartbeat, and a retransmission to node-a.
func playAgent(node string, in io.Reader, out io.Writer) error {
	if _, err := bufio.NewReader(in).ReadByte(); err != nil {
		return nil
	}
	over := make(chan struct{})
	go func() { _, _ = io.Copy(io.Discard, in); close(over) }()
	n := uint64(0)
	tell := func(t event.Type, body event.Body) error {
		n++
		e := event.Event{
			Type: t, Time: time.Now().UTC(), Source: "agent/" + node, ID: event.ID{Origin: "agent/" + node + "-x", N: n}, Body: body,
		}
		_, err := out.Write(append(event.AppendJSON(nil, &e), '\n'))
		return err
	}
	host := event.Host{Node: node, BootID: "b"}
	if err := tell(event.StreamStarted, &event.Started{Host: host, Complete: true}); err != nil {
		return nil
	}
	for {
		socket := event.Socket{
			Cookie: 7, Netns: 4026532281, Family: event.IPv4,
			Local: event.Endpoint{IP: netip.MustParseAddr("10.244.2.5"), Port: 8080},
			Peer:  event.Endpoint{IP: netip.MustParseAddr("192.0.2.11"), Port: 40001},
		}
		err := errors.Join(
			tell(event.StreamHeartbeat, &event.Heartbeat{}),
			tell(event.TCPRetransmit, &event.TCPFact{Socket: socket, TCP: event.Progress{State: "established", Retransmits: 1}}))
		if err != nil {
			return nil
		}
		select {
		case <-over:
			return nil
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// probing is a `midhop probe` that runs.
type probing struct {
	t   *testing.T
	cmd *exec.Cmd
	out io.ReadCloser
	err *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}
func (l *lockedBuffer) String() string { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }

func startProbe(a *probeAPI, args ...string) *probing {
	a.t.Helper()
	p := &probing{t: a.t, cmd: exec.Command("midhop", append([]string{"probe", "--kubeconfig", a.kubeconfig()}, args...)...), err: &lockedBuffer{}}
	p.cmd.Stderr = p.err
	var err error
	if p.out, err = p.cmd.StdoutPipe(); err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() { _ = p.cmd.Process.Kill(); _ = p.cmd.Wait() })
	return p
}

// end reads the rest of the output and holds the program to its exit code.
func (p *probing) end(code int) string {
	p.t.Helper()
	rest, _ := io.ReadAll(p.out)
	_ = p.cmd.Wait()
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		p.t.Fatalf("exit code %d, want %d; it said:\n%s%s", got, code, rest, p.err)
	}
	return string(rest)
}

// says fails where the program's words to people lack a part.
func (p *probing) says(parts ...string) {
	p.t.Helper()
	for _, part := range parts {
		if !strings.Contains(p.err.String(), part) {
			p.t.Errorf("it does not say %q:\n%s", part, p.err)
		}
	}
}

// until reads lines up to one that holds all parts.
func (p *probing) until(parts ...string) {
	p.t.Helper()
	lines := bufio.NewScanner(p.out)
	lines.Buffer(nil, event.MaxLine)
	late := time.AfterFunc(hang, func() { _ = p.cmd.Process.Kill() })
	defer late.Stop()
	var last string
lines:
	for lines.Scan() {
		last = lines.Text()
		for _, part := range parts {
			if !strings.Contains(last, part) {
				continue lines
			}
		}
		return
	}
	p.t.Fatalf("no line with %q; the last is %s\n%s", parts, last, p.err)
}

// left fails where anything that the program made is still there.
func (a *probeAPI) left() {
	a.t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if pods := a.probes(); len(pods)+len(a.jobs) > 0 {
		a.t.Errorf("left behind: pods %v, jobs %v", pods, a.jobs)
	}
}

// TestProbe looks at a node through a pod: its agent is told to begin, what it tells is named by the API, and the interrupt
// removes all.
func TestProbe(t *testing.T) {
	a := serveProbeAPI(t)
	a.agent = playAgent
	p := startProbe(a, "node-b", "--yes", "-o", "jsonl", "--complete")
	p.until(`"type":"tcp.retransmit"`, `"pod":"chat-1"`, `"node":"node-a"`)
	a.mu.Lock()
	pods, jobs := a.probes(), len(a.jobs)
	pod := a.pods["ws/"+pods[0]]
	a.mu.Unlock()
	if len(pods) != 1 || jobs != 1 {
		t.Fatalf("pods %v and %d jobs", pods, jobs)
	}
	owner := pod["metadata"].(object)["ownerReferences"].([]any)[0].(object)
	if owner["kind"] != "Job" || !strings.HasPrefix(owner["uid"].(string), "uid-of-midhop-probe-") {
		t.Errorf("the pod's owner is %v", owner)
	}
	_ = p.cmd.Process.Signal(syscall.SIGINT)
	p.end(exitInterrupted)
	a.left()
}

// TestProbeKilled kills the program: the agent's input ends, so that it ends, and what is left has an owner that goes by
// itself.
func TestProbeKilled(t *testing.T) {
	a := serveProbeAPI(t)
	a.agent = playAgent
	p := startProbe(a, "node-b", "--yes", "-o", "jsonl", "--complete")
	p.until(`"type":"tcp.retransmit"`)
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	a.wait("end of the agent's input", func() bool {
		for _, name := range a.probes() {
			select {
			case <-a.inputs[name]:
				return true
			default:
			}
		}
		return false
	})
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, job := range a.jobs {
		if ttl, _ := job["spec"].(object)["ttlSecondsAfterFinished"].(float64); ttl != 3660 {
			t.Errorf("the Job goes after %v s", ttl)
		}
	}
}

// TestProbeEnds is told of an agent that ends by itself, and removes its pod.
func TestProbeEnds(t *testing.T) {
	a := serveProbeAPI(t)
	a.agent = func(string, io.Reader, io.Writer) error { return errors.New("command terminated with exit code 3") }
	p := startProbe(a, "pod/chat-1", "--yes", "-o", "table")
	p.end(exitFailed)
	p.says("every stream has ended", "node-b", "exit code 3", "no proof that the node is at fault")
	a.left()
}

// TestProbeInterruptedEarly interrupts while the pod is still starting.
func TestProbeInterruptedEarly(t *testing.T) {
	a := serveProbeAPI(t)
	a.state = func(object) object { return object{"phase": "Pending"} }
	p := startProbe(a, "-l", "app=chat", "--yes", "-o", "table")
	a.wait("pod", func() bool { return len(a.probes()) == 1 })
	_ = p.cmd.Process.Signal(syscall.SIGINT)
	p.end(exitInterrupted)
	a.left()
}

// TestProbeRefusals is told why nothing can be looked at: cause, effect, remedy, and code 3.
func TestProbeRefusals(t *testing.T) {
	for _, c := range []struct {
		name string
		with func(a *probeAPI)
		args []string
		code int
		says []string
		not  string
	}{
		{name: "no right to attach", with: func(a *probeAPI) { a.denied = []string{"create pods/attach"} }, args: []string{"node-b", "--yes"},
			code: exitBlind, says: []string{"create pods/attach in namespace ws", "nothing was started", "kubectl create role midhop-probe -n ws"}},
		{name: "no right to jobs", with: func(a *probeAPI) {
			a.denied = []string{"create jobs"}
			a.agent = func(string, io.Reader, io.Writer) error { return nil }
		}, args: []string{"node-b", "--yes"}, code: exitFailed, says: []string{"you may not create jobs.batch", "stays behind where midhop is killed"}},
		{name: "names of one namespace", with: func(a *probeAPI) {
			a.denied = []string{"list pods everywhere", "watch pods everywhere"}
			a.agent = func(string, io.Reader, io.Writer) error { return nil }
		}, args: []string{"node-b", "--yes"}, code: exitFailed, says: []string{"of namespace ws only"}, not: "pods have no names"},
		{name: "pod security", with: func(a *probeAPI) {
			a.refuses = `pods "x" is forbidden: violates PodSecurity "baseline:latest": host namespaces (hostNetwork=true)`
		}, args: []string{"node-b", "--yes"}, code: exitBlind, says: []string{"host namespaces", "--pod-namespace"}},
		{name: "no image", with: func(a *probeAPI) {
			a.state = func(object) object {
				return object{"phase": "Pending", "containerStatuses": []object{{"name": "midhop", "state": object{
					"waiting": object{"reason": "ErrImagePull", "message": "manifest unknown"}}}}}
			}
		}, args: []string{"node-b", "--yes", "--image", "example.org/x:1"}, code: exitBlind, says: []string{"ErrImagePull: manifest unknown", "--image", "example.org/x:1"}},
		{name: "words that a terminal would obey", with: func(a *probeAPI) {
			a.state = func(object) object {
				return object{"phase": "Pending", "containerStatuses": []object{{"name": "midhop", "state": object{
					"waiting": object{"reason": "ErrImagePull", "message": "\x1b[2J\x1b]0;owned\x07"}}}}}
			}
		}, args: []string{"node-b", "--yes"}, code: exitBlind, says: []string{`\x1b[2J\x1b]0;owned\a`}, not: "\x1b"},
		{name: "kubelet dead", with: func(a *probeAPI) { a.state = func(object) object { return object{"phase": "Pending"} } },
			args: []string{"node-b", "--yes", "--start-timeout", "1s"}, code: exitBlind, says: []string{"the kubelet has not started it", "kubectl describe node node-b"}},
		{name: "nobody to ask", args: []string{"node-b"}, code: exitUsage, says: []string{"--yes"}},
		{name: "no such thing", args: []string{"nothing", "--yes"}, code: exitUsage, says: []string{"a node nothing, or a pod of this name in namespace ws"}},
		{name: "nothing selected", args: []string{"-l", "app=none", "--yes"}, code: exitUsage, says: []string{"a running pod with app=none in namespace ws"}},
		{name: "nothing said", code: exitUsage, says: []string{"name a node, a pod"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := serveProbeAPI(t)
			if c.with != nil {
				c.with(a)
			}
			p := startProbe(a, append(c.args, "-o", "table")...)
			if out := p.end(c.code); out != "" && c.code != exitFailed {
				t.Errorf("it wrote %q", out)
			}
			p.says(c.says...)
			if c.not != "" && strings.Contains(p.err.String(), c.not) {
				t.Errorf("it says %q:\n%s", c.not, p.err)
			}
			a.left()
		})
	}
}

// TestProbePrint starts nothing and prints what would do the same.
func TestProbePrint(t *testing.T) {
	a := serveProbeAPI(t)
	p := startProbe(a, "node-b", "--print")
	out := p.end(exitOK)
	for _, want := range []string{
		"apply -f - <<'EOF'", "nodeName: node-b", "stdinOnce: true", "- --attached", "activeDeadlineSeconds: 3600", "wait --for=condition=Ready",
		"attach -i -q -c midhop midhop-probe-", "midhop replay -", "delete pod -l midhop.dev/probe=", "-n ws",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	a.left()
}

// TestAttached begins with a line and ends with the input.
func TestAttached(t *testing.T) {
	in, w := io.Pipe()
	go func() { _, _ = w.Write([]byte("\n")) }()
	ctx, err := attached(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if ctx.Err() != nil {
		t.Error("it has ended before its input has")
	}
	_ = w.Close()
	select {
	case <-ctx.Done():
	case <-time.After(hang):
		t.Error("it outlives its input")
	}
	if _, err := attached(t.Context(), strings.NewReader("")); !errors.Is(err, errStopped) {
		t.Errorf("without anybody attached: %v", err)
	}
}

// TestNoHubMessage names real nodes.
func TestNoHubMessage(t *testing.T) {
	a := serveProbeAPI(t)
	access, err := kubeaccess.Open(kubeaccess.Options{Kubeconfig: a.kubeconfig()})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if code := exitWith(&b, newRoot(), noHubMessage(t.Context(), access, nil)); code != exitBlind {
		t.Errorf("exit code %d", code)
	}
	if want := "kubectl midhop probe --context test node-a (or node-b)"; !strings.Contains(b.String(), want) {
		t.Errorf("no %q in\n%s", want, b.String())
	}
}

// TestOwnWord holds an agent to its own node.
func TestOwnWord(t *testing.T) {
	of := func(source string, body event.Body) event.Event { return event.Event{Source: source, Body: body} }
	got := ownWord("node-b", []event.Event{
		of("agent/node-b", &event.Heartbeat{}),
		of("agent/node-a", &event.Heartbeat{}),
		of("kube", &event.NodeFact{What: "removed", Node: event.Node{Name: "node-a"}}),
		of("agent/node-b", &event.NodeFact{What: "agent", Node: event.Node{Name: "node-b"}}),
		of("agent/node-b", &event.NodeFact{What: "removed", Node: event.Node{Name: "node-b"}}),
		of("agent/node-b", &event.NodeFact{What: "agent", Node: event.Node{Name: "node-a"}}),
		of("agent/node-b", &event.PodFact{What: "removed"}),
		of("agent/node-b", &event.ServiceFact{What: "removed"}),
	})
	if len(got) != 2 {
		t.Errorf("%d events are believed, want the heartbeat and the addresses: %+v", len(got), got)
	}
}
