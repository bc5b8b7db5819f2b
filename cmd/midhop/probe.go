package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/midhop/midhop/cmd/midhop/deploy"
	"github.com/midhop/midhop/tracer/kubeaccess"
	"github.com/midhop/midhop/tracer/report"
)

// probeOptions are the flags of `midhop probe`.
type probeOptions struct {
	access   kubeaccess.Options
	all      bool
	target   kubeaccess.Target
	in       string // namespace of the pods
	image    string
	deadline time.Duration
	patience time.Duration // for a pod to start
	most     int           // nodes
	yes      bool
	print    bool
	output   string
	complete bool
	filter   string
	lb       []string
	ascii    bool
	verbose  bool
}

func newProbe() *cobra.Command {
	var opts probeOptions
	cmd := &cobra.Command{
		Use:   "probe NODE|POD... | -l SELECTOR",
		Short: "Look at nodes of a cluster in which nothing is installed",
		Long: `Starts midhop's image as a debug pod on the named nodes, on those of the named pods, or on all on which pods of a selector
run; has it tell what it sees through the API server, names everything with your own kubeconfig, and shows it here: a live
screen on a terminal, a table in a pipe, or -o jsonl. The pods need no rights of the API and get no token.

It shows the pod and asks before it starts any. At the end the pods are removed, after Ctrl-C too. Should this process be
killed, what runs in them ends with the connection; the cluster removes them when --deadline is over.

--print writes the same as plain kubectl commands, and starts nothing.`,
		Example: "  kubectl midhop probe node-b\n  kubectl midhop probe -n chat -l app=ws\n  kubectl midhop probe pod/chat-7d9f-x2v -n chat -o jsonl --yes > incident.jsonl\n  kubectl midhop probe node-b --print",
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.target.Names = args
			return runProbe(cmd.Context(), opts)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&opts.target.Selector, "selector", "l", "", "the nodes on which pods with these `labels` run")
	f.StringVar(&opts.access.Kubeconfig, "kubeconfig", "", "kubeconfig `file`")
	f.StringVar(&opts.access.Context, "context", "", "`context` of the kubeconfig")
	f.StringVarP(&opts.access.Namespace, "namespace", "n", "", "`namespace` of the pods that are named or selected (default: the context's)")
	f.BoolVarP(&opts.all, "all-namespaces", "A", false, "with -l: pods of all namespaces")
	f.StringVar(&opts.in, "pod-namespace", "", "start the debug pods in this `namespace`, whose Pod Security level has to be privileged (default: that of -n)")
	f.StringVar(&opts.image, "image", "", "`image` of midhop (default: "+defaultImage()+")")
	f.DurationVar(&opts.deadline, "deadline", time.Hour, "the cluster ends and removes the pods after this long")
	f.DurationVar(&opts.patience, "start-timeout", time.Minute, "wait this long for a pod to start")
	f.IntVar(&opts.most, "max-nodes", 10, "refuse to start more pods than this")
	f.BoolVarP(&opts.yes, "yes", "y", false, "do not ask")
	f.BoolVar(&opts.print, "print", false, "print kubectl commands that do the same; start nothing")
	f.StringVarP(&opts.output, "output", "o", "", "table or jsonl (default: the screen on a terminal, else table)")
	f.BoolVar(&opts.complete, "complete", false, "jsonl: every fact too, so that the stream can be replayed")
	f.StringVar(&opts.filter, "filter", "", filterHelp+strings.Join(report.EventNames, ", "))
	f.StringSliceVar(&opts.lb, "lb", nil, "further load balancer `CIDR`s; Google's two are built in")
	f.BoolVarP(&opts.verbose, "verbose", "v", false, "log what happens inside to stderr")
	asciiFlag(cmd, &opts.ascii)
	return cmd
}

// defaultImage is the one that the chart uses: of this version, where this is a release.
func defaultImage() string {
	repository, tag := "ghcr.io/midhop/midhop", "devel"
	if values, err := deploy.Defaults(); err == nil {
		if image, ok := values["image"].(map[string]any); ok {
			repository, tag = fmt.Sprint(image["repository"]), fmt.Sprint(image["tag"])
		}
	}
	if strings.HasPrefix(version, "v") && !strings.Contains(version, "-") {
		tag = version
	}
	return repository + ":" + tag
}

// capable are the capabilities of an agent, see docs/privileges.md.
var capable = []string{"BPF", "PERFMON", "NET_ADMIN"}

// check refuses what contradicts itself, and fills in what was left open.
func (o *probeOptions) check() error {
	named := len(o.target.Names) > 0
	switch {
	case !named && o.target.Selector == "":
		return usagef("probe what? name a node, a pod, or select pods with -l")
	case named && o.target.Selector != "":
		return usagef("-l and names contradict each other")
	case o.all && o.target.Selector == "":
		return usagef("-A is for -l: a pod has a name in one namespace")
	case o.deadline < time.Minute:
		return usagef("--deadline %s: at least a minute", o.deadline)
	case o.most < 1:
		return usagef("--max-nodes %d: at least 1", o.most)
	}
	if o.image == "" {
		o.image = defaultImage()
	}
	_, err := parseRanges(o.lb)
	return err
}

func runProbe(ctx context.Context, o probeOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	kind, err := chooseOutput(o.output)
	if err != nil {
		return err
	}
	keep, err := parseFilter(o.filter)
	if err != nil {
		return err
	}
	// A terminal that is closed is one more way to end it.
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGHUP)
	defer stop()
	log := logTo(os.Stderr, o.verbose)
	kubeaccess.LogTo(details(log))
	access, err := kubeaccess.Open(o.access)
	if errors.Is(err, kubeaccess.ErrNone) {
		return usagef("%w; name one with --kubeconfig", err)
	}
	if err != nil {
		return usageError{err}
	}
	debugger, err := kubeaccess.NewDebugger(access)
	if err != nil {
		return err
	}
	p := &probe{opts: o, access: access, api: debugger, log: log, progress: newProgress(os.Stderr)}
	if err := p.aim(ctx); err != nil {
		return err
	}
	if o.print {
		return p.print(os.Stdout)
	}
	if err := p.permitted(ctx); err != nil {
		return err
	}
	if err := p.agreed(ctx); err != nil {
		return err
	}
	defer p.remove(ctx)
	if err := p.start(ctx); err != nil {
		return err
	}
	return p.show(ctx, kind, keep)
}
