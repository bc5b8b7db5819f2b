package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/midhop/midhop/tracer/fleet"
	"github.com/midhop/midhop/tracer/kubeaccess"
)

// hubInCluster is the value of --hub that has the hub looked for in the cluster that kubectl would speak to. It is the
// default under the name kubectl-midhop.
const hubInCluster = "cluster"

// What the chart calls things; a test holds the two together.
const (
	hubLabels     = "app.kubernetes.io/name=midhop,app.kubernetes.io/component=hub"
	hubService    = "midhop-hub"
	hubPortName   = "nats"
	hubPort       = 4222
	hubReader     = "midhop-reader" // ServiceAccount
	hubCA         = "midhop-hub-ca" // ConfigMap
	hubCAKey      = "ca.crt"        // in it, and in the Secret of the hub's certificate
	hubTLSVolume  = "tls"           // of the pod
	hubDefaultIn  = "midhop"        // namespace of `midhop deploy`
	hubFindWait   = 15 * time.Second
	hubTokenGood  = time.Hour
	hubTokenSpare = 5 * time.Minute
)

// foundHub is a hub's pod.
type foundHub struct {
	namespace, pod string
	port           int
	secret         string // of its certificate; empty where it has none
	nats           string // the cluster that it keeps its streams in instead of its own server
	ready          bool
}

// clusterHub is the way to the hub in a cluster: through the API server to its pod, with a token that the API issues to
// whoever runs this, and with the certificate that the hub is known by.
type clusterHub struct {
	access *kubeaccess.Access
	client *kubeaccess.Client
	log    *slog.Logger

	mu      sync.Mutex
	at      foundHub
	forward *kubeaccess.Forward
	token   string
	expires time.Time
}

// openClusterHub finds the hub.
func openClusterHub(ctx context.Context, k kubeOptions, log *slog.Logger) (*clusterHub, error) {
	kubeaccess.LogTo(details(log))
	access, err := kubeaccess.Open(k.access)
	if err != nil {
		return nil, blindError{cause: err, effect: "the cluster's hub cannot be looked for",
			remedy: "name a cluster with --kubeconfig or --context, a hub with --hub URL, or look at this machine with midhop"}
	}
	h := &clusterHub{access: access, log: log}
	if h.client, err = kubeaccess.NewClient(access); err != nil {
		return nil, usageError{err}
	}
	namespace := k.access.Namespace
	if k.all {
		namespace = ""
	}
	if h.at, err = h.find(ctx, namespace); err != nil {
		return nil, err
	}
	if h.at.nats != "" {
		return nil, blindError{cause: fmt.Errorf("the hub %s/%s keeps its streams in %s, not in its pod", h.at.namespace, h.at.pod, h.at.nats),
			effect: "there is nothing in the pod to read", remedy: "name that cluster with --hub URL --hub-creds FILE"}
	}
	if h.forward, err = kubeaccess.NewForward(access, h.at.namespace, h.at.pod, h.at.port); err != nil {
		return nil, usageError{err}
	}
	log.Info("a hub was found", "namespace", h.at.namespace, "pod", h.at.pod)
	return h, nil
}

// find returns the hub's pod, of one namespace where it is given. Who may not look everywhere looks where it is likely.
func (h *clusterHub) find(ctx context.Context, namespace string) (foundHub, error) {
	places := []string{namespace}
	if namespace == "" {
		places = slices.Compact([]string{"", h.access.Namespace, hubDefaultIn})
	}
	var refused error
	for i, in := range places {
		all, err := h.hubs(ctx, in)
		var status *kubeaccess.StatusError
		switch {
		case errors.As(err, &status) && (status.Code == http.StatusForbidden || status.Code == http.StatusNotFound):
			refused = err
			continue
		case err != nil:
			return foundHub{}, blindError{cause: err, effect: "the cluster's hub cannot be looked for", remedy: "check that kubectl get pods works; --kubeconfig and --context choose the cluster"}
		case len(all) > 0:
			return oneHub(all)
		case in == "": // everywhere was looked
			return foundHub{}, h.none(ctx, "")
		}
		if i == len(places)-1 && refused == nil {
			return foundHub{}, h.none(ctx, in)
		}
	}
	return foundHub{}, blindError{cause: refused, effect: "the cluster's hub cannot be looked for", remedy: "ask for the right to list pods where it runs, and name that namespace with -n"}
}

// none says that there is no hub; namespace is where it was looked for, empty for everywhere.
func (h *clusterHub) none(ctx context.Context, namespace string) error {
	where := "in the cluster"
	if h.access.Context != "" {
		where = fmt.Sprintf("in the cluster of the context %q", h.access.Context)
	}
	if namespace != "" {
		where = fmt.Sprintf("in the namespace %q", namespace)
	}
	return noHubMessage(ctx, h.access, fmt.Errorf("no hub %s: no pod is labelled %s", where, hubLabels))
}

// oneHub chooses among pods. Those of one namespace are replicas, which come to the same; hubs of several namespaces need a
// word of the user's: whoever may make pods anywhere may also label them.
func oneHub(all []foundHub) (foundHub, error) {
	var namespaces []string
	for _, f := range all {
		namespaces = append(namespaces, f.namespace)
	}
	slices.Sort(namespaces)
	if namespaces = slices.Compact(namespaces); len(namespaces) > 1 {
		return foundHub{}, blindError{cause: fmt.Errorf("there are hubs in %s: %s", plural(len(namespaces), "namespace"), strings.Join(namespaces, ", ")),
			effect: "which one to believe is not known", remedy: "choose with -n NAMESPACE"}
	}
	return slices.MaxFunc(all, func(a, b foundHub) int {
		return cmp.Or(cmp.Compare(btoi(a.ready), btoi(b.ready)), cmp.Compare(b.pod, a.pod))
	}), nil
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// hubs lists the pods of hubs that are not on their way out.
func (h *clusterHub) hubs(ctx context.Context, namespace string) ([]foundHub, error) {
	pods, err := h.client.Pods(ctx, namespace, hubLabels)
	if err != nil {
		return nil, err
	}
	var all []foundHub
	for i := range pods {
		p := &pods[i]
		if p.DeletionTimestamp != nil || p.Status.Phase == "Failed" || p.Status.Phase == "Succeeded" {
			continue
		}
		f := foundHub{namespace: p.Namespace, pod: p.Name, port: hubPort}
		for _, c := range p.Status.Conditions {
			f.ready = f.ready || c.Type == "Ready" && c.Status == "True"
		}
		for _, c := range p.Spec.Containers {
			for _, port := range c.Ports {
				if port.Name == hubPortName {
					f.port = int(port.ContainerPort)
				}
			}
			for _, a := range c.Args {
				if url, ok := strings.CutPrefix(a, "--nats="); ok {
					f.nats = url
				}
			}
		}
		for _, v := range p.Spec.Volumes {
			if v.Name == hubTLSVolume && v.Secret != nil {
				f.secret = v.Secret.SecretName
			}
		}
		all = append(all, f)
	}
	return all, nil
}

// dial makes a connection to the hub; a hub that has moved to another pod since is found again.
func (h *clusterHub) dial() (net.Conn, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	conn, err := h.forward.Dial()
	if err == nil {
		return conn, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), hubFindWait)
	defer cancel()
	at, findErr := h.find(ctx, h.at.namespace)
	if findErr != nil || at.pod == h.at.pod {
		return nil, err
	}
	next, err := kubeaccess.NewForward(h.access, at.namespace, at.pod, at.port)
	if err != nil {
		return nil, err
	}
	h.log.Info("the hub runs elsewhere now", "pod", at.pod)
	h.forward.Close()
	h.at, h.forward = at, next
	return next.Dial()
}

// close ends every connection.
func (h *clusterHub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.forward.Close()
}

// askToken returns a token of the readers' ServiceAccount, fresh where the last one is about to expire.
func (h *clusterHub) askToken() (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.token != "" && time.Until(h.expires) > hubTokenSpare {
		return h.token, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), hubFindWait)
	defer cancel()
	token, expires, err := h.client.Token(ctx, h.at.namespace, hubReader, hubTokenGood)
	if err != nil {
		return "", blindError{cause: err, effect: "the hub would not let this in: it takes readers' tokens only",
			remedy: fmt.Sprintf("ask for the right to create serviceaccounts/token of %s/%s, or for a token: kubectl -n %s create token %s --audience %s; then --hub-token FILE",
				h.at.namespace, hubReader, h.at.namespace, hubReader, kubeaccess.Audience)}
	}
	h.token, h.expires = token, expires
	return token, nil
}

// roots returns the certificates that the hub's is signed with. They are public; the Secret, which holds the key too, is
// read only where nothing else says them.
func (h *clusterHub) roots(ctx context.Context) ([]byte, error) {
	pem, err := h.client.Value(ctx, false, h.at.namespace, hubCA, hubCAKey)
	if err == nil && len(pem) > 0 {
		return pem, nil
	}
	if h.at.secret != "" {
		pem, err = h.client.Value(ctx, true, h.at.namespace, h.at.secret, hubCAKey)
		if err == nil && len(pem) > 0 {
			return pem, nil
		}
	}
	if err == nil {
		err = fmt.Errorf("neither the ConfigMap %s nor a Secret of the hub's holds %s", hubCA, hubCAKey)
	}
	return nil, blindError{cause: err, effect: "whether it is the hub that answers cannot be told",
		remedy: fmt.Sprintf("make the ConfigMap %s/%s with %s, or name a file with --hub-ca", h.at.namespace, hubCA, hubCAKey)}
}

// url says whom to expect behind the connections.
func (h *clusterHub) url() string {
	return "tls://" + net.JoinHostPort(hubService+"."+h.at.namespace+".svc", strconv.Itoa(hubPort))
}

// hubTitle is what a screen calls what it shows: the context of kubectl, or just the hub.
func hubTitle(o localOptions) string {
	if o.hub.url == hubInCluster {
		if access, err := kubeaccess.Open(o.kube.access); err == nil && access.Context != "" {
			return access.Context
		}
	}
	return "hub"
}

// dialCluster connects to the hub in the cluster as a reader. The second result ends what was made for that.
func (o *hubOptions) dialCluster(l localOptions, log *slog.Logger) (*fleet.Conn, func(), error) {
	ctx, cancel := context.WithTimeout(context.Background(), hubFindWait)
	defer cancel()
	h, err := openClusterHub(ctx, l.kube, log)
	if err != nil {
		return nil, nil, err
	}
	opts := fleet.DialOptions{URL: h.url(), TokenFile: o.token, CA: o.ca, Through: h.dial, Log: log, Lasting: l.screen}
	if o.token == "" {
		opts.Token = h.askToken
	}
	if o.ca == "" {
		if opts.Roots, err = h.roots(ctx); err != nil {
			return nil, nil, err
		}
	}
	conn, err := fleet.DialReader(opts)
	if err != nil {
		h.close()
		var blind blindError
		if errors.As(err, &blind) {
			return nil, nil, err
		}
		return nil, nil, unread(err, fmt.Sprintf("check the pod %s/%s, and that kubectl port-forward reaches it", h.at.namespace, h.at.pod))
	}
	return conn, func() { conn.Close(); h.close() }, nil
}
