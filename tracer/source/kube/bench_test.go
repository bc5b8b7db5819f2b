package kube

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	apiruntime "k8s.io/apimachinery/pkg/runtime"

	"github.com/midhop/midhop/tracer/event"
)

const (
	benchNodes = 5_000
	benchPods  = 150_000
)

// large serves a cluster of benchNodes and benchPods by watch-list, in protobuf, with objects as large as those of a managed
// cluster: 10 KB a node with its images, 5 KB a pod with its managed fields. It makes each object anew and keeps none.
type large struct{}

func (l large) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("sendInitialEvents") != "true" {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/vnd.kubernetes.protobuf;stream=watch")
	switch {
	case strings.HasSuffix(r.URL.Path, "/nodes"):
		for i := range benchNodes {
			l.send(w, "ADDED", benchNode(i))
		}
		l.send(w, "BOOKMARK", &corev1.Node{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}, ObjectMeta: bookmark()})
	case strings.HasSuffix(r.URL.Path, "/pods"):
		for i := range benchPods {
			l.send(w, "ADDED", benchPod(i))
		}
		l.send(w, "BOOKMARK", &corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, ObjectMeta: bookmark()})
	case strings.HasSuffix(r.URL.Path, "/services"):
		l.send(w, "BOOKMARK", &corev1.Service{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Service"}, ObjectMeta: bookmark()})
	default:
		<-r.Context().Done()
		return
	}
	w.(http.Flusher).Flush()
	<-r.Context().Done()
}

func bookmark() metav1.ObjectMeta {
	return metav1.ObjectMeta{ResourceVersion: "1000000", Annotations: map[string]string{metav1.InitialEventsAnnotationKey: "true"}}
}

// send writes one watch event in the frames of the protobuf stream: a length of four bytes, then a WatchEvent.
func (l large) send(w io.Writer, kind string, o apiruntime.Object) {
	var object strings.Builder
	if err := protobuf.NewSerializer(nil, nil).Encode(o, &object); err != nil {
		panic(err)
	}
	ev := &metav1.WatchEvent{Type: kind, Object: apiruntime.RawExtension{Raw: []byte(object.String())}}
	body, err := ev.Marshal()
	if err != nil {
		panic(err)
	}
	var size [4]byte
	binary.BigEndian.PutUint32(size[:], uint32(len(body)))
	_, _ = w.Write(size[:]) // a reader that has gone ends the request
	_, _ = w.Write(body)
}

func benchNode(i int) *corev1.Node {
	n := node(fmt.Sprintf("gke-prod-pool-1-%08x-%04x", i/16, i), func(n *corev1.Node) {
		n.Status.Addresses[0].Address = fmt.Sprintf("10.%d.%d.%d", 128+i>>16, i>>8&255, i&255)
		n.Spec.PodCIDRs = []string{fmt.Sprintf("10.%d.%d.0/24", i>>8, i&255)}
		for k := range 50 {
			n.Status.Images = append(n.Status.Images, corev1.ContainerImage{
				Names:     []string{fmt.Sprintf("registry.example/team-%d/image-%d@sha256:%064x", k, k, i*50+k), fmt.Sprintf("registry.example/team-%d/image-%d:v1.%d.%d", k, k, k, i)},
				SizeBytes: int64(k) << 20,
			})
		}
	})
	n.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}
	n.ResourceVersion = fmt.Sprint(i + 1)
	return n
}

func benchPod(i int) *corev1.Pod {
	hash := fmt.Sprintf("%08x", i/40)
	p := podOf(fmt.Sprintf("service-%d-%s-%05x", i/40, hash, i), fmt.Sprintf("gke-prod-pool-1-%08x-%04x", i%benchNodes/16, i%benchNodes), fmt.Sprintf("10.%d.%d.%d", i%benchNodes>>8, i%benchNodes&255, 2+i/benchNodes), func(p *corev1.Pod) {
		p.Namespace = fmt.Sprintf("team-%d", i/600)
		p.UID = types.UID(fmt.Sprintf("%08x-0000-4000-8000-%012x", i, i))
		p.Labels = map[string]string{"pod-template-hash": hash, "app": fmt.Sprintf("service-%d", i/40)}
		p.OwnerReferences[0].Name = fmt.Sprintf("service-%d-%s", i/40, hash)
		p.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubelet", FieldsV1: &metav1.FieldsV1{Raw: []byte(`{"f:status":{"f:conditions":{` + strings.Repeat(`"k:{\"type\":\"Ready\"}":{".":{},"f:lastProbeTime":{},"f:status":{}},`, 28) + `"z":{}}}}`)}}}
		for k := range 2 {
			c := corev1.Container{Name: fmt.Sprintf("container-%d", k), Image: "registry.example/team/service:v1.2.3"}
			for e := range 24 {
				c.Env = append(c.Env, corev1.EnvVar{Name: fmt.Sprintf("SETTING_%d", e), Value: fmt.Sprintf("value-%d-of-%d", e, i)})
			}
			p.Spec.Containers = append(p.Spec.Containers, c)
		}
	})
	p.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}
	p.ResourceVersion = fmt.Sprint(i + 1)
	return p
}

// serveLarge runs the server in a process of its own, so that its memory is not counted.
func serveLarge(b *testing.B) *rest.Config {
	b.Helper()
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^TestServeLarge$")
	cmd.Env = append(os.Environ(), "KUBE_BENCH_SERVE=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		in.Close()
		_ = cmd.Wait() // it has said what it had to say
	})
	url, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return &rest.Config{Host: strings.TrimSpace(url)}
}

// TestServeLarge is that process. It ends with its standard input.
func TestServeLarge(t *testing.T) {
	if os.Getenv("KUBE_BENCH_SERVE") == "" {
		t.Skip("the server of BenchmarkMemory, which starts it")
	}
	srv := httptest.NewServer(large{})
	fmt.Println(srv.URL)
	_, _ = io.Copy(io.Discard, os.Stdin)
	srv.CloseClientConnections()
	srv.Close()
}

// peak is the most memory that this process has had, in bytes (VmHWM of /proc/self/status).
func peak(b *testing.B) float64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var kb float64
		if _, err := fmt.Sscanf(line, "VmHWM: %f kB", &kb); err == nil {
			return kb * 1024
		}
	}
	b.Fatal("no VmHWM")
	return 0
}

func heap() float64 {
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// BenchmarkMemory reads the large cluster by this package's source, whose facts are counted and dropped: what is kept of
// them is the model's. Each benchmark is run in a process of its own, since the peak is the process's.
func BenchmarkMemory(b *testing.B) {
	s, err := New(Options{Config: serveLarge(b), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready := make(chan struct{})
	done := make(chan struct{})
	pods, nodes := 0, 0
	start := time.Now()
	go func() {
		defer close(done)
		synced := make(map[string]bool)
		_ = s.Run(ctx, func(batch []event.Event) {
			for i := range batch {
				switch f := batch[i].Body.(type) {
				case *event.PodFact:
					pods++
				case *event.NodeFact:
					nodes++
				case *event.Synced:
					if f.Fact == "services" { // endpointslices are not served
						continue
					}
					if synced[f.Fact] = true; len(synced) == 2 {
						close(ready)
					}
				}
			}
		})
	}()
	<-ready
	b.ReportMetric(time.Since(start).Seconds(), "s-sync")
	live, most := heap(), peak(b)
	b.ReportMetric(live/1e6, "MB-heap")
	b.ReportMetric(most/1e6, "MB-peak")
	if live > 120e6 || most > 400e6 {
		b.Errorf("%.0f MB of heap and %.0f MB at the peak: at most 120 and 400", live/1e6, most/1e6)
	}
	cancel()
	<-done
	if pods != benchPods || nodes != benchNodes {
		b.Errorf("%d pods and %d nodes were told", pods, nodes)
	}
	runtime.KeepAlive(s)
}

// BenchmarkMemoryInformers is the same by informers as they come, for comparison.
func BenchmarkMemoryInformers(b *testing.B) {
	config := serveLarge(b)
	c, err := newClients(config, newCredentials(config))
	if err != nil {
		b.Fatal(err)
	}
	stop := make(chan struct{})
	start := time.Now()
	var all []cache.SharedIndexInformer
	for resource, example := range map[string]apiruntime.Object{"nodes": &corev1.Node{}, "pods": &corev1.Pod{}} {
		i := cache.NewSharedIndexInformer(cache.NewFilteredListWatchFromClient(c.core, resource, "", func(*metav1.ListOptions) {}), example, 0, cache.Indexers{})
		all = append(all, i)
		go i.Run(stop)
	}
	for _, i := range all {
		if !cache.WaitForCacheSync(stop, i.HasSynced) {
			b.Fatal("no sync")
		}
	}
	b.ReportMetric(time.Since(start).Seconds(), "s-sync")
	b.ReportMetric(heap()/1e6, "MB-heap")
	b.ReportMetric(peak(b)/1e6, "MB-peak")
	for _, i := range all {
		runtime.KeepAlive(i)
	}
	close(stop)
}
