package kubeaccess

import (
	"errors"
	"fmt"
	"log/slog"
	"os"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/klog/v2"
)

// Options are what kubectl's flags of the same names mean.
type Options struct {
	Kubeconfig string // --kubeconfig; empty: KUBECONFIG, then ~/.kube/config, then the pod's service account
	Context    string // --context
	Namespace  string // -n
}

// Access is an API server and the credentials to speak to it.
type Access struct {
	Config    *rest.Config
	Namespace string // of the flag, else of the context, else default
	Context   string // empty in a pod
}

// ErrNone is what Open returns where nothing says which cluster is meant.
var ErrNone = errors.New("no kubeconfig, and not in a pod with a service account")

// InCluster says whether this process runs in a pod that has a service account.
func InCluster() bool {
	_, err := rest.InClusterConfig()
	return err == nil
}

// Open finds the API server that is meant. It asks nothing of it.
func Open(o Options) (*Access, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = o.Kubeconfig
	over := &clientcmd.ConfigOverrides{CurrentContext: o.Context, Context: clientcmdapi.Context{Namespace: o.Namespace}}
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, over)
	raw, err := loader.RawConfig()
	if err != nil {
		return nil, fmt.Errorf("kubeconfig: %w", err)
	}
	if o.Kubeconfig == "" && o.Context == "" && len(raw.Contexts)+len(raw.Clusters) == 0 {
		cfg, err := rest.InClusterConfig()
		if errors.Is(err, rest.ErrNotInCluster) || errors.Is(err, os.ErrNotExist) {
			return nil, ErrNone
		}
		if err != nil {
			return nil, fmt.Errorf("the pod's service account: %w", err)
		}
		a := &Access{Config: cfg, Namespace: o.Namespace}
		if a.Namespace == "" {
			a.Namespace = ownNamespace()
		}
		return a, nil
	}
	cfg, err := loader.ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("kubeconfig: %w", err)
	}
	a := &Access{Config: cfg, Context: raw.CurrentContext}
	if o.Context != "" {
		a.Context = o.Context
	}
	if a.Namespace, _, err = loader.Namespace(); err != nil {
		return nil, fmt.Errorf("kubeconfig: %w", err)
	}
	return a, nil
}

func ownNamespace() string {
	b, err := os.ReadFile("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
	if err != nil || len(b) == 0 {
		return "default"
	}
	return string(b)
}

// LogTo sends what client-go's packages log through their global logger to log: they know no other way, and on a screen
// their lines must not land in the middle of it. It is called once, before anything else of this package.
func LogTo(log *slog.Logger) { klog.SetSlogLogger(log) }
