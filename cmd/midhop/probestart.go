package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/midhop/midhop/tracer/kubeaccess"
	"github.com/midhop/midhop/tracer/report"
)

// probe is one run of `midhop probe`.
type probe struct {
	opts     probeOptions
	access   *kubeaccess.Access
	api      *kubeaccess.Debugger
	log      *slog.Logger
	progress progress
	run      kubeaccess.DebugRun
	names    string // namespace in which pods and services are read; empty: all
	kept     bool   // nothing is left behind where this process is killed

	mu      sync.Mutex
	started []string // nodes on which a pod may be
	keeper  bool     // there may be one
	running []string
}

// aim finds the nodes that are meant.
func (p *probe) aim(ctx context.Context) error {
	t := p.opts.target
	if t.Namespace = p.access.Namespace; p.opts.all {
		t.Namespace = ""
	}
	nodes, err := p.api.Nodes(ctx, t)
	var none kubeaccess.TargetError
	switch {
	case errors.As(err, &none):
		return usageError{err}
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return blindError{cause: cleanError{err}, effect: "nothing was started", remedy: "see whether kubectl get nodes works with the same --kubeconfig and --context"}
	case len(nodes) > p.opts.most:
		return usagef("%s are meant, and a pod on each; name fewer, or allow it with --max-nodes %d", plural(len(nodes), "node"), len(nodes))
	}
	p.run = kubeaccess.DebugRun{
		ID: kubeaccess.NewRunID(), Namespace: p.opts.in, Image: p.opts.image, Nodes: nodes, Deadline: p.opts.deadline, Capable: capable,
		Args: func(node string) []string { return []string{"agent", "--node=" + node, "--attached"} },
	}
	if p.run.Namespace == "" {
		p.run.Namespace = p.access.Namespace
	}
	return nil
}

// permitted tells what the user may not do: what is needed ends it, the rest costs a part.
func (p *probe) permitted(ctx context.Context) error {
	missing, err := p.api.Missing(ctx, kubeaccess.ProbeRights(p.run.Namespace))
	if err != nil { // whoever may not even ask is told by the first refusal
		p.log.Info("cannot ask what you may do", "error", err)
		p.kept = true
		return ctx.Err()
	}
	if len(missing) > 0 {
		lines := make([]string, len(missing))
		for i, r := range missing {
			lines[i] = fmt.Sprintf("%s (%s)", r, r.For)
		}
		return blindError{
			cause:  fmt.Errorf("you may not: %s", strings.Join(lines, "; ")),
			effect: "nothing was started",
			remedy: fmt.Sprintf("ask for it, as by: kubectl create role midhop-probe -n %s --verb=create,get,delete --resource=pods,pods/attach,jobs.batch; or name another --pod-namespace",
				p.run.Namespace),
		}
	}
	if missing, err = p.api.Missing(ctx, kubeaccess.KeeperRights(p.run.Namespace)); err != nil {
		return err
	}
	p.kept = len(missing) == 0
	p.tellMissing(missing)
	if missing, err = p.api.Missing(ctx, kubeaccess.NameRights("")); err != nil {
		return err
	}
	if len(missing) > 0 { // of one namespace, perhaps
		inOne, err := p.api.Missing(ctx, kubeaccess.NameRights(p.access.Namespace))
		if err != nil {
			return err
		}
		if len(inOne) < len(missing) {
			p.names = p.access.Namespace
			fmt.Fprintf(os.Stderr, "midhop: you may read pods and services of namespace %s only\n  effect: others have no names\n", p.names)
			missing = inOne
		}
	}
	p.tellMissing(missing)
	return nil
}

// tellMissing tells rights whose lack is no reason not to start, once for each effect.
func (p *probe) tellMissing(missing []kubeaccess.Right) {
	said := make(map[string]bool)
	for _, r := range missing {
		if !said[r.For] {
			said[r.For] = true
			fmt.Fprintf(os.Stderr, "midhop: you may not %s\n  effect: %s\n", r, r.For)
		}
	}
}

// agreed shows what would be started, after the API server has judged it, and asks.
func (p *probe) agreed(ctx context.Context) error {
	for _, node := range p.run.Nodes {
		// A webhook that does not know dry runs refuses them all: only a judgement of the pod counts.
		if err := p.api.Check(ctx, &p.run, node); kubeaccess.IsRefusal(err) {
			return p.refused(node, err)
		}
	}
	if p.opts.yes {
		return ctx.Err()
	}
	if !isTerminal(os.Stdin) {
		return usagef("standard input is no terminal, so nobody can be asked: say --yes, or --print to see what would be started")
	}
	manifest, err := p.run.PodManifest(p.run.Nodes[0], "")
	if err != nil {
		return err
	}
	w := os.Stderr
	fmt.Fprintf(w, "Through %s, this pod is to be started on node %s:\n\n%s\n", p.server(), p.run.Nodes[0], indent(manifest))
	if more := p.run.Nodes[1:]; len(more) > 0 {
		fmt.Fprintf(w, "and its like on %s.\n", strings.Join(more, ", "))
	}
	fmt.Fprintf(w, "It sees the sockets and the NAT table of its node, writes nothing there, and is removed at the end.\n")
	if p.kept {
		fmt.Fprintf(w, "The Job %s, which runs nothing, owns it.\nShould this midhop be killed, the cluster removes both after %s.\n", p.run.KeeperName(), p.run.Deadline)
	}
	fmt.Fprintf(w, "\nStart %s? [y/N] ", plural(len(p.run.Nodes), "pod"))
	said := make(chan string, 1)
	go func() { // a read of a terminal cannot be called off
		line, _ := bufio.NewReader(os.Stdin).ReadString('\n')
		said <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case answer := <-said:
		if answer != "y" && answer != "yes" {
			fmt.Fprintln(w, "nothing was started")
			return errStopped
		}
		return nil
	case <-ctx.Done():
		fmt.Fprintln(w, "\nnothing was started")
		return ctx.Err()
	}
}

func (p *probe) server() string {
	if p.access.Context == "" {
		return p.access.Config.Host
	}
	return p.access.Config.Host + " (context " + p.access.Context + ")"
}

func indent(text string) string {
	return "  " + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n  ") + "\n"
}

// refused says why the API server does not take a pod.
func (p *probe) refused(node string, err error) error {
	b := blindError{cause: fmt.Errorf("the API server refuses the pod for %s: %w", node, cleanError{err}), effect: "nothing is running there"}
	if kubeaccess.ViolatesPodSecurity(err) {
		b.remedy = "name a namespace whose Pod Security level is privileged with --pod-namespace; kube-system mostly is one"
	}
	return b
}

// start starts the pods and returns when each runs or will not. Where none does, that is the error.
func (p *probe) start(ctx context.Context) error {
	var owner string
	if p.kept {
		p.mu.Lock()
		p.keeper = true
		p.mu.Unlock()
		var err error
		if owner, err = p.api.Keep(ctx, &p.run); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			fmt.Fprintf(os.Stderr, "midhop: the Job %s cannot be made: %v\n  effect: a finished pod stays behind where midhop is killed\n", p.run.KeeperName(), cleanError{err})
		}
	}
	waiting, cancel := context.WithTimeout(ctx, p.opts.patience)
	defer cancel()
	var wg sync.WaitGroup
	failed := make([]error, len(p.run.Nodes))
	for i, node := range p.run.Nodes {
		p.mu.Lock()
		p.started = append(p.started, node) // before it is asked for: an answer may be lost
		p.mu.Unlock()
		p.progress.say("starting pod %s/%s on %s ...", p.run.Namespace, p.run.PodName(node), node)
		if err := p.api.Start(ctx, &p.run, node, owner); err != nil {
			failed[i] = p.refused(node, err)
			continue
		}
		wg.Go(func() { failed[i] = p.notRunning(p.api.Await(waiting, &p.run, node)) })
	}
	wg.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var last error
	for i, err := range failed {
		if err == nil {
			p.running = append(p.running, p.run.Nodes[i])
			continue
		}
		if last != nil {
			explain(os.Stderr, "midhop: ", last)
		}
		last = err
	}
	if len(p.running) > 0 && last != nil {
		explain(os.Stderr, "midhop: ", last)
		last = nil
	}
	return last
}

// notRunning says what helps against a pod that does not run.
func (p *probe) notRunning(err error) error {
	var not *kubeaccess.NotRunning
	if !errors.As(err, &not) {
		return err
	}
	b := blindError{cause: cleanError{not}, effect: "nothing is seen of " + not.Node}
	switch not.Reason {
	case "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull":
		b.remedy = fmt.Sprintf("name an image that the node can pull with --image; it was %s", p.run.Image)
	case "the kubelet has not started it":
		b.remedy = fmt.Sprintf("see whether its kubelet is alive: kubectl describe node %s; or wait longer with --start-timeout", not.Node)
	default:
		b.remedy = fmt.Sprintf("kubectl describe pod -n %s %s, while midhop waits", p.run.Namespace, not.Pod)
	}
	return b
}

// cleanError is an error whose words come from a cluster: a terminal must show every character of them and obey none.
type cleanError struct{ err error }

func (e cleanError) Error() string { return report.Clean(e.err.Error()) }
func (e cleanError) Unwrap() error { return e.err }

// removeWait bounds the removal: an API server that is away must not hold the user.
const removeWait = 15 * time.Second

// remove removes everything that was started, also after ctx has ended.
func (p *probe) remove(ctx context.Context) {
	p.mu.Lock()
	started, keeper := p.started, p.keeper
	p.mu.Unlock()
	if len(started) == 0 && !keeper {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeWait)
	defer cancel()
	var left []string
	for _, node := range started {
		if err := p.api.Remove(ctx, &p.run, node, slices.Contains(p.running, node)); err != nil {
			left = append(left, fmt.Sprintf("pod %s: %v", p.run.PodName(node), err))
		}
	}
	if keeper {
		if err := p.api.RemoveKeeper(ctx, &p.run); err != nil {
			left = append(left, fmt.Sprintf("job %s: %v", p.run.KeeperName(), err))
		}
	}
	if len(left) == 0 {
		p.progress.say("removed what was started")
		return
	}
	b := blindError{
		cause:  fmt.Errorf("cannot remove what was started: %s", strings.Join(left, "; ")),
		effect: "what runs in it has ended with the connection",
		remedy: fmt.Sprintf("kubectl delete pods,jobs -n %s -l %s", p.run.Namespace, p.run.Selector()),
	}
	if p.kept {
		b.effect += fmt.Sprintf(", and the cluster removes it after %s", p.run.Deadline)
	}
	explain(os.Stderr, "midhop: ", b)
}

// print writes the run as plain kubectl commands.
func (p *probe) print(w io.Writer) error {
	flags := ""
	if p.opts.access.Kubeconfig != "" {
		flags += " --kubeconfig " + p.opts.access.Kubeconfig
	}
	if p.opts.access.Context != "" {
		flags += " --context " + p.opts.access.Context
	}
	kubectl := "kubectl" + flags + " -n " + p.run.Namespace
	var b strings.Builder
	fmt.Fprintf(&b, "# 1. Start %s. The program in it begins when a line comes in, and ends with its input.\n", plural(len(p.run.Nodes), "pod"))
	fmt.Fprintf(&b, "%s apply -f - <<'EOF'\n", kubectl)
	for _, node := range p.run.Nodes {
		text, err := p.run.PodManifest(node, "")
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "---\n%s", text)
	}
	fmt.Fprintf(&b, "EOF\n%s wait --for=condition=Ready --timeout=%s pod -l %s\n\n", kubectl, p.opts.patience, p.run.Selector())
	fmt.Fprintf(&b, "# 2. Look. Ctrl-C ends it; instead of replay, > FILE keeps it. With several pods: one terminal each.\n")
	fmt.Fprintf(&b, "kubectl%s get nodes -o json > nodes.json\n", flags)
	for _, node := range p.run.Nodes {
		fmt.Fprintf(&b, "{ echo; exec tail -f /dev/null; } | %s attach -i -q -c %s %s | midhop replay - --nodes nodes.json\n",
			kubectl, kubeaccess.Container, p.run.PodName(node))
	}
	fmt.Fprintf(&b, "\n# 3. Remove. Without it the kubelet ends the pods after %s, and they stay to be seen.\n", p.run.Deadline)
	fmt.Fprintf(&b, "%s delete pod -l %s\n", kubectl, p.run.Selector())
	_, err := io.WriteString(w, b.String())
	return err
}
