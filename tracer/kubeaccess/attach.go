package kubeaccess

import (
	"context"
	"fmt"
	"io"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/streaming/pkg/httpstream"
)

// Attach carries the standard streams of the pod on a node, by WebSocket, or by SPDY where the API server or a proxy before
// it does not take that. It returns when the pod ends, the connection does, or ctx; with the latter's error then.
func (d *Debugger) Attach(ctx context.Context, r *DebugRun, node string, in io.Reader, out, errOut io.Writer) error {
	params := runtime.NewScheme()
	if err := corev1.AddToScheme(params); err != nil {
		return err
	}
	metav1.AddToGroupVersion(params, corev1.SchemeGroupVersion)
	url := d.core.Post().Namespace(r.Namespace).Resource("pods").Name(r.PodName(node)).SubResource("attach").VersionedParams(
		&corev1.PodAttachOptions{Container: Container, Stdin: true, Stdout: true, Stderr: true}, runtime.NewParameterCodec(params)).URL()
	cfg := rest.CopyConfig(d.config)
	spdy, err := remotecommand.NewSPDYExecutor(cfg, "POST", url)
	if err != nil {
		return fmt.Errorf("attach to the pod on %s: %w", node, err)
	}
	ws, err := remotecommand.NewWebSocketExecutor(cfg, "GET", url.String())
	if err != nil {
		return fmt.Errorf("attach to the pod on %s: %w", node, err)
	}
	both, err := remotecommand.NewFallbackExecutor(ws, spdy, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	})
	if err != nil {
		return err
	}
	err = both.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: in, Stdout: out, Stderr: errOut})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("the stream from the pod on %s: %w", node, err)
	}
	return nil
}
