package kube

import (
	"fmt"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"

	"github.com/midhop/midhop/tracer/kubeaccess"
)

// clients speak to the four groups that are read. A typed clientset would carry every kind there is, at 20 MB.
type clients struct {
	core, discovery, coordination, cilium rest.Interface
}

func newClients(base *rest.Config, creds *credentials) (*clients, error) {
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, discoveryv1.AddToScheme, coordinationv1.AddToScheme, addCilium,
	} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	codecs := serializer.NewCodecFactory(scheme).WithoutConversion()
	cfg := rest.CopyConfig(base)
	cfg.NegotiatedSerializer = codecs
	cfg.WarningHandler = rest.NoWarnings{}
	if cfg.UserAgent == "" {
		cfg.UserAgent = "midhop"
	}
	// One look per resource and one Lease a second at most: the bounds are against mistakes of ours.
	cfg.QPS, cfg.Burst = 20, 40
	if file := cfg.BearerTokenFile; file != "" {
		// client-go reads the file once a minute; this reads it again as soon as the API refuses what it had.
		cfg.BearerToken, cfg.BearerTokenFile = "", ""
		cfg.Wrap(transport.ResettableTokenSourceWrapTransport(transport.NewCachedFileTokenSource(file)))
	}
	creds.watch(cfg)
	shared, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("kubernetes API %s: %w", base.Host, err)
	}
	called := *shared // client-go hands out its default client where nothing is configured
	called.Transport = kubeaccess.CalledOff(shared.Transport)
	shared = &called
	client := func(gv schema.GroupVersion, proto bool) (rest.Interface, error) {
		own := rest.CopyConfig(cfg)
		own.GroupVersion = &gv
		own.APIPath = "/apis"
		if gv.Group == "" {
			own.APIPath = "/api"
		}
		if proto {
			own.ContentType = runtime.ContentTypeProtobuf
			own.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
		}
		return rest.RESTClientForConfigAndClient(own, shared)
	}
	var c clients
	for _, want := range []struct {
		into  *rest.Interface
		gv    schema.GroupVersion
		proto bool
	}{
		{&c.core, corev1.SchemeGroupVersion, true},
		{&c.discovery, discoveryv1.SchemeGroupVersion, true},
		{&c.coordination, coordinationv1.SchemeGroupVersion, true},
		{&c.cilium, ciliumVersion, false}, // custom resources have no protobuf
	} {
		if *want.into, err = client(want.gv, want.proto); err != nil {
			return nil, fmt.Errorf("kubernetes API %s: %w", base.Host, err)
		}
	}
	return &c, nil
}
