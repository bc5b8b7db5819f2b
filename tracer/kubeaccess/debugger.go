package kubeaccess

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
)

// Debugger starts debug pods, speaks to them and removes them, with the rights of the user of a kubeconfig.
type Debugger struct {
	config            *rest.Config
	core, batch, auth rest.Interface
}

// NewDebugger prepares one. It asks the API nothing.
func NewDebugger(a *Access) (*Debugger, error) {
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, batchv1.AddToScheme, authorizationv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	cfg := rest.CopyConfig(a.Config)
	cfg.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	cfg.WarningHandler = rest.NoWarnings{}
	if cfg.UserAgent == "" {
		cfg.UserAgent = "midhop"
	}
	cfg.QPS = -1 // a person's requests are few; a limit would make the last ones before a deadline fail
	shared, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("kubernetes API %s: %w", cfg.Host, err)
	}
	d := &Debugger{config: cfg}
	for _, want := range []struct {
		into *rest.Interface
		gv   schema.GroupVersion
	}{{&d.core, corev1.SchemeGroupVersion}, {&d.batch, batchv1.SchemeGroupVersion}, {&d.auth, authorizationv1.SchemeGroupVersion}} {
		own := rest.CopyConfig(cfg)
		own.GroupVersion, own.APIPath = &want.gv, "/apis"
		if want.gv.Group == "" {
			own.APIPath = "/api"
		}
		if *want.into, err = rest.RESTClientForConfigAndClient(own, shared); err != nil {
			return nil, fmt.Errorf("kubernetes API %s: %w", cfg.Host, err)
		}
	}
	return d, nil
}

// Keep makes the run's keeper and returns its UID for the pods that it is to own.
func (d *Debugger) Keep(ctx context.Context, r *DebugRun) (string, error) {
	var made batchv1.Job
	err := d.batch.Post().Namespace(r.Namespace).Resource("jobs").Body(r.Keeper()).Do(ctx).Into(&made)
	return string(made.UID), err
}

// Start makes the pod on a node; owner may be empty.
func (d *Debugger) Start(ctx context.Context, r *DebugRun, node string, owner string) error {
	return d.core.Post().Namespace(r.Namespace).Resource("pods").Body(r.Pod(node, owner)).Do(ctx).Error()
}

// Check has the API server judge the pod for a node, with its admission, and makes nothing.
func (d *Debugger) Check(ctx context.Context, r *DebugRun, node string) error {
	dry := metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}
	return d.core.Post().Namespace(r.Namespace).Resource("pods").VersionedParams(&dry, metav1.ParameterCodec).
		Body(r.Pod(node, "")).Do(ctx).Error()
}

// NotRunning is why a debug pod does not run.
type NotRunning struct {
	Pod, Node string
	Reason    string // the API's word, such as ErrImagePull
	Message   string
}

func (e *NotRunning) Error() string {
	text := fmt.Sprintf("the pod on %s does not run: %s", e.Node, e.Reason)
	if e.Message != "" {
		text += ": " + e.Message
	}
	return text
}

// startPoll is how often a pod that is starting is looked at: to watch it would take one more right.
const startPoll = 500 * time.Millisecond

// Await returns when the pod on a node runs, and *NotRunning when it never will, or not before ctx ends.
func (d *Debugger) Await(ctx context.Context, r *DebugRun, node string) error {
	tick := time.NewTicker(startPoll)
	defer tick.Stop()
	last := &NotRunning{Pod: r.PodName(node), Node: node, Reason: "no word of it yet"}
	for {
		var p corev1.Pod
		err := d.core.Get().Namespace(r.Namespace).Resource("pods").Name(r.PodName(node)).Do(ctx).Into(&p)
		switch {
		case over(ctx):
			return last
		case apierrors.IsNotFound(err):
			return &NotRunning{Pod: r.PodName(node), Node: node, Reason: "it was removed"}
		case err != nil:
			last.Reason, last.Message = "the API does not answer", err.Error()
		default:
			running, never := stateOf(&p, last)
			if running {
				return nil
			}
			if never {
				return last
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return last
		}
	}
}

// over says whether a context has ended, or is about to be told so.
func over(ctx context.Context) bool {
	end, ok := ctx.Deadline()
	return ctx.Err() != nil || ok && !time.Now().Before(end)
}

// stateOf reads how a pod is. What stands in the way is put into why.
func stateOf(p *corev1.Pod, why *NotRunning) (running, never bool) {
	why.Reason, why.Message = "it is "+strings.ToLower(string(p.Status.Phase)), p.Status.Message
	if p.Status.Phase == "" || p.Status.Phase == corev1.PodPending {
		why.Reason = "the kubelet has not started it"
	}
	if p.Status.Reason != "" {
		why.Reason = p.Status.Reason
	}
	if p.Status.Phase == corev1.PodFailed || p.Status.Phase == corev1.PodSucceeded {
		never = true
	}
	for _, c := range p.Status.ContainerStatuses {
		switch {
		case c.State.Running != nil:
			return true, false
		case c.State.Terminated != nil:
			why.Reason, why.Message = fmt.Sprintf("it has ended with code %d", c.State.Terminated.ExitCode), c.State.Terminated.Message
			return false, true
		case c.State.Waiting != nil && c.State.Waiting.Reason != "" && c.State.Waiting.Reason != "ContainerCreating":
			why.Reason, why.Message = c.State.Waiting.Reason, c.State.Waiting.Message
			// The kubelet goes on trying; whoever waits for a typing error wants to know of it now.
			hopeless := []string{"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError", "CreateContainerError", "RunContainerError"}
			return false, slices.Contains(hopeless, why.Reason)
		}
	}
	return false, never
}

// Remove removes the pod on a node. That there is none is no error. A pod that never ran is removed at once: its kubelet may
// be gone, and nobody would confirm that it has ended.
func (d *Debugger) Remove(ctx context.Context, r *DebugRun, node string, ran bool) error {
	var o metav1.DeleteOptions
	if now := int64(0); !ran {
		o.GracePeriodSeconds = &now
	}
	return gone(d.core.Delete().Namespace(r.Namespace).Resource("pods").Name(r.PodName(node)).Body(&o).Do(ctx).Error())
}

// RemoveKeeper removes the run's keeper, and what it still owns.
func (d *Debugger) RemoveKeeper(ctx context.Context, r *DebugRun) error {
	behind := metav1.DeletePropagationBackground
	return gone(d.batch.Delete().Namespace(r.Namespace).Resource("jobs").Name(r.KeeperName()).
		Body(&metav1.DeleteOptions{PropagationPolicy: &behind}).Do(ctx).Error())
}

func gone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// IsRefusal says whether the API server has judged an object and does not take it: by rights, by admission, or as not valid.
func IsRefusal(err error) bool { return apierrors.IsForbidden(err) || apierrors.IsInvalid(err) }

// ViolatesPodSecurity says whether the namespace's Pod Security level does not allow the pod.
func ViolatesPodSecurity(err error) bool {
	return apierrors.IsForbidden(err) && strings.Contains(err.Error(), "violates PodSecurity") // k8s.io/pod-security-admission, admission.go
}
