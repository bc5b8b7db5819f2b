package main

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/midhop/midhop/tracer"
	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/fleet"
	"github.com/midhop/midhop/tracer/kubeaccess"
	"github.com/midhop/midhop/tracer/source/kube"
)

// kubeOptions are the flags that say which Kubernetes API names what is seen, as kubectl's.
type kubeOptions struct {
	use    bool
	all    bool
	access kubeaccess.Options
}

func (o *kubeOptions) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&o.use, "kube", false, "take names from the Kubernetes API that kubectl would speak to (in a pod with a service account: without being told)")
	f.StringVar(&o.access.Kubeconfig, "kubeconfig", "", "kubeconfig `file`; implies --kube")
	f.StringVar(&o.access.Context, "context", "", "`context` of the kubeconfig; implies --kube")
	f.StringVarP(&o.access.Namespace, "namespace", "n", "", "read pods and services of this `namespace` only, for those who may not read all")
	f.BoolVarP(&o.all, "all-namespaces", "A", false, "read pods and services of all namespaces (the default)")
}

// wanted says whether the API is to be used: when the user names one, or asks, or in a pod that has credentials for it.
func (o *kubeOptions) wanted() bool {
	return o.use || o.access.Kubeconfig != "" || o.access.Context != "" || kubeaccess.InCluster()
}

// named says whether the user names an API without asking for it by --kube.
func (o *kubeOptions) named() bool { return o.access.Kubeconfig != "" || o.access.Context != "" }

// open returns the API as a source of facts; node is the one whose pods are read. It does not ask the API anything: that it
// does not answer is no reason not to start.
func (o *kubeOptions) open(node string, log *slog.Logger) (*kube.Source, error) {
	if o.all {
		o.access.Namespace = ""
	}
	kubeaccess.LogTo(details(log))
	access, err := kubeaccess.Open(o.access)
	if errors.Is(err, kubeaccess.ErrNone) {
		remedy := "--kubeconfig FILE names one, --nodes FILE the nodes"
		if kubeaccess.PodWithoutAccount() {
			remedy = podNames
		}
		return nil, usageRemedy(remedy, fmt.Errorf("--kube: %w", err))
	}
	if err != nil {
		return nil, usageError{err}
	}
	return kube.New(kube.Options{Config: access.Config, Node: node, Addresses: fleet.OwnAddresses(), Namespace: o.access.Namespace, Log: log, Details: details(log)})
}

// own returns the API as a source of what an agent may say of itself: its Node object and its pods. Whoever holds the
// cluster is somebody else.
func (o *kubeOptions) own(node string, log *slog.Logger) (*kube.Source, error) {
	kubeaccess.LogTo(details(log))
	access, err := kubeaccess.Open(o.access)
	if err != nil {
		return nil, usageError{err}
	}
	return kube.New(kube.Options{
		Config: access.Config, Node: node, Own: true, Log: log, Details: details(log),
		BackoffMax: ownBackoff, // every node of the cluster has one of these
	})
}

// podNames says what names would need in a pod that has no service account.
const podNames = "a service account whose token is mounted (automountServiceAccountToken) and which may list and watch nodes, pods, services and endpointslices, as midhop deploy prints it; or --nodes FILE"

// ownBackoff is the longest pause between two attempts of an agent while the API fails: thousands of them meet one server
// that comes back.
const ownBackoff = time.Minute

// suspicions tells the API's source which nodes want a closer look: the sooner their Leases are read, the sooner a silent
// kubelet is known.
type suspicions struct{ source *kube.Source }

// Write implements tracer.Sink.
func (s suspicions) Write(batch []event.Event) error {
	for i := range batch {
		switch b := batch[i].Body.(type) {
		case *event.Stall:
			if batch[i].Type == event.TCPStall && b.Via.Role == event.ViaEntry && b.Via.Node != "" {
				s.source.Suspect(b.Via.Node)
			}
		case *event.IncidentFinding:
			if b.Incident.Culprit.Kind == event.CulpritNode && batch[i].Type != event.IncidentClosed {
				s.source.Suspect(b.Incident.Culprit.Name)
			}
		}
	}
	return nil
}

// attach lets an Engine's findings reach the source.
func (s suspicions) attach(engine *tracer.Engine) {
	engine.AddSink("suspicions", s, tracer.Policy{Optional: true})
}
