package kubeaccess

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"

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

// ConfigError says what is wrong with a kubeconfig, and what helps.
type ConfigError struct {
	cause  error
	remedy string
}

// Error implements error.
func (e *ConfigError) Error() string { return e.cause.Error() }

// Unwrap returns the cause.
func (e *ConfigError) Unwrap() error { return e.cause }

// Effect is said nowhere else: what follows depends on who asked.
func (e *ConfigError) Effect() string { return "" }

// Remedy is what helps.
func (e *ConfigError) Remedy() string { return e.remedy }

// ErrNone is what Open returns where nothing says which cluster is meant.
var ErrNone = errors.New("no kubeconfig, and not in a pod with a service account")

// PodWithoutAccount says whether this process runs in a pod that may not speak to its cluster: no service account is mounted.
func PodWithoutAccount() bool {
	_, err := rest.InClusterConfig()
	return err != nil && os.Getenv("KUBERNETES_SERVICE_HOST") != "" && os.Getenv("KUBERNETES_SERVICE_PORT") != ""
}

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
	if o.Kubeconfig != "" && len(raw.Contexts)+len(raw.Clusters) == 0 {
		return nil, &ConfigError{fmt.Errorf("kubeconfig %s: names no cluster", o.Kubeconfig), "kubectl config view --raw shows one that does; without --kubeconfig, KUBECONFIG and ~/.kube/config are read"}
	}
	if _, there := raw.Contexts[o.Context]; o.Context != "" && !there {
		return nil, &ConfigError{fmt.Errorf("kubeconfig: context %q does not exist; there are: %s", o.Context, strings.Join(slices.Sorted(maps.Keys(raw.Contexts)), ", ")), "kubectl config get-contexts"}
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
	if p := cfg.AuthProvider; p != nil {
		return nil, &ConfigError{fmt.Errorf("kubeconfig: its user signs in by the auth-provider %q, which client-go and kubectl have given up", p.Name), authRemedy(p.Name)}
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

// authRemedy says what has come in the place of an auth-provider.
func authRemedy(name string) string {
	switch name {
	case "gcp":
		return "gke-gcloud-auth-plugin: gcloud components install gke-gcloud-auth-plugin, then gcloud container clusters get-credentials CLUSTER"
	case "azure":
		return "kubelogin: kubelogin convert-kubeconfig"
	case "oidc":
		return "an exec plugin for OIDC, such as kubectl oidc-login (kubelogin), as the user's exec entry"
	}
	return "an exec plugin of the provider's, as the user's exec entry"
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
