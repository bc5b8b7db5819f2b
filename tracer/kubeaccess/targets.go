package kubeaccess

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Target is what is to be looked at, as the user names it.
type Target struct {
	Names     []string // NODE, node/NODE, POD or pod/POD
	Selector  string   // of pods
	Namespace string   // of pods; empty with a Selector: all
}

// TargetError says why what the user names is nothing that can be looked at. Asking again does not help.
type TargetError string

func (e TargetError) Error() string { return string(e) }

func noTarget(format string, args ...any) error { return TargetError(fmt.Sprintf(format, args...)) }

// Nodes returns the nodes that a target means, sorted: itself, or where its pods run.
func (d *Debugger) Nodes(ctx context.Context, t Target) ([]string, error) {
	nodes := make(map[string]bool)
	for _, name := range t.Names {
		node, err := d.nodeOf(ctx, name, t.Namespace)
		if err != nil {
			return nil, err
		}
		nodes[node] = true
	}
	if t.Selector != "" {
		var pods corev1.PodList
		o := metav1.ListOptions{LabelSelector: t.Selector}
		if err := d.core.Get().Namespace(t.Namespace).Resource("pods").VersionedParams(&o, metav1.ParameterCodec).Do(ctx).Into(&pods); err != nil {
			return nil, fmt.Errorf("pods with %s: %w", t.Selector, err)
		}
		for i := range pods.Items {
			p := &pods.Items[i]
			if p.Spec.NodeName != "" && p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed {
				nodes[p.Spec.NodeName] = true
			}
		}
		if len(nodes) == 0 {
			where := "in any namespace"
			if t.Namespace != "" {
				where = "in namespace " + t.Namespace
			}
			return nil, noTarget("not found: a running pod with %s %s", t.Selector, where)
		}
	}
	out := make([]string, 0, len(nodes))
	for n := range nodes {
		out = append(out, n)
	}
	slices.Sort(out)
	return out, nil
}

// nodeOf returns the node that a name means: of itself, or of the pod of this name.
func (d *Debugger) nodeOf(ctx context.Context, name, namespace string) (string, error) {
	kind, bare, given := strings.Cut(name, "/")
	if !given {
		kind, bare = "", name
	}
	switch kind {
	case "", "node", "nodes", "no", "pod", "pods", "po":
	default:
		return "", noTarget("%s: want a node or a pod, such as node/%s or pod/%s", name, bare, bare)
	}
	pod, hidden := strings.HasPrefix(kind, "po"), false
	if !pod {
		var n corev1.Node
		err := d.core.Get().Resource("nodes").Name(bare).Do(ctx).Into(&n)
		switch {
		case err == nil && n.Labels["kubernetes.io/os"] == "windows":
			return "", noTarget("node %s runs Windows: midhop looks at Linux kernels", bare)
		case err == nil:
			return bare, nil
		case apierrors.IsForbidden(err):
			hidden = true
		case !apierrors.IsNotFound(err):
			return "", fmt.Errorf("node %s: %w", bare, err)
		case kind != "":
			return "", noTarget("not found: node %s", bare)
		}
	}
	if hidden && kind != "" {
		return bare, nil // whoever says node/NAME is taken at his word
	}
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	var p corev1.Pod
	err := d.core.Get().Namespace(namespace).Resource("pods").Name(bare).Do(ctx).Into(&p)
	switch {
	case apierrors.IsNotFound(err) && pod:
		return "", noTarget("not found: pod %s in namespace %s", bare, namespace)
	case apierrors.IsNotFound(err) && hidden:
		return "", noTarget("not found: a pod %s in namespace %s; which nodes there are you may not see: if it is one, say node/%s", bare, namespace, bare)
	case apierrors.IsNotFound(err):
		return "", noTarget("not found: a node %s, or a pod of this name in namespace %s", bare, namespace)
	case err != nil:
		return "", fmt.Errorf("pod %s: %w", bare, err)
	case p.Spec.NodeName == "":
		return "", noTarget("pod %s is on no node yet", bare)
	}
	return p.Spec.NodeName, nil
}

// NodeNames returns the names of up to limit nodes, for messages.
func (d *Debugger) NodeNames(ctx context.Context, limit int64) ([]string, error) {
	var list corev1.NodeList
	o := metav1.ListOptions{Limit: limit}
	if err := d.core.Get().Resource("nodes").VersionedParams(&o, metav1.ParameterCodec).Do(ctx).Into(&list); err != nil {
		return nil, err
	}
	var out []string
	for i := range list.Items {
		out = append(out, list.Items[i].Name)
	}
	return out, nil
}
