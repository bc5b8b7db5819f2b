package kube

import (
	"context"
	"errors"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/midhop/midhop/tracer/event"
)

// slowAfter is how long an answer may take before it is said that there is none.
const slowAfter = 10 * time.Second

// pageSize is how many objects one answer of a list may have, where the server has no watch-list.
const pageSize = 500

// follower keeps one resource followed by a reflector of client-go.
type follower struct {
	s        *Source
	resource string
	example  runtime.Object
	list     *cache.ListWatch
	keep     keeper
	optional bool // a resource that many clusters do not have: its absence is no news
}

// keeper takes up what a follower's reflector brings. The caller holds the source's lock.
type keeper interface {
	// read makes a record of an object, which is all that is kept of it; nil for what is of no interest.
	read(obj any) any
	// put takes up a record, drop what is gone, by the object's key.
	put(b *batch, key, record any)
	drop(b *batch, key any)
	// key names a record or an object.
	key(obj any) any
	// keys lists what was put and not dropped.
	keys() []any
	// settle is called when a batch is complete.
	settle(b *batch)
}

func (s *Source) followers() []*follower {
	var all []*follower
	add := func(resource, fact string, c rest.Interface, namespace, selector string, example runtime.Object, k keeper) *follower {
		f := &follower{
			s: s, resource: resource, example: example, keep: k,
			list: cache.NewListWatchFromClient(c, resource, namespace, fields.ParseSelectorOrDie(selector)),
		}
		if fact != "" {
			s.health.expect(resource, fact)
		}
		all = append(all, f)
		return f
	}
	nodes, pods := "", ""
	if s.opts.Node != "" {
		pods = fields.OneTermEqualSelector("spec.nodeName", s.opts.Node).String()
	}
	if s.opts.Own {
		nodes = fields.OneTermEqualSelector("metadata.name", s.opts.Node).String()
	}
	add("nodes", "nodes", s.clients.core, "", nodes, &corev1.Node{}, nodeKeeper{s})
	add("pods", "pods", s.clients.core, s.opts.Namespace, pods, &corev1.Pod{}, podKeeper{s})
	cilium := add("ciliumnodes", "", s.clients.cilium, "", nodes, &CiliumNode{}, ciliumKeeper{s})
	cilium.optional = true
	if !s.opts.Own {
		add("services", "services", s.clients.core, s.opts.Namespace, "", &corev1.Service{}, serviceKeeper{s})
		add("endpointslices", "services", s.clients.discovery, s.opts.Namespace, "", &discoveryv1.EndpointSlice{}, sliceKeeper{s})
	}
	return all
}

// run follows the resource until ctx ends.
func (f *follower) run(ctx context.Context) {
	logger := logr.FromSlogHandler(f.s.opts.Details.Handler())
	ctx = klog.NewContext(ctx, logger)
	r := cache.NewReflectorWithOptions(f, f.example, &store{f: f, ctx: ctx}, cache.ReflectorOptions{
		Name: "midhop/" + f.resource, Logger: &logger,
		Backoff: &wait.Backoff{Duration: 500 * time.Millisecond, Cap: f.backoff(), Steps: 30, Factor: 2, Jitter: 0.5},
	})
	// Only where the server has no watch-list: its lists then come in pages, and not as one answer with all pods of a
	// large cluster in it.
	r.WatchListPageSize = pageSize
	r.RunWithContext(ctx)
}

// backoff is the longest pause between attempts. A resource that is not there is asked for now and then.
func (f *follower) backoff() time.Duration {
	if f.optional {
		return max(time.Minute, f.s.opts.BackoffMax)
	}
	return f.s.opts.BackoffMax
}

// ListWithContext implements cache.ListerWatcherWithContext.
func (f *follower) ListWithContext(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
	if o.ResourceVersion == "0" && o.Limit > 0 {
		o.ResourceVersion = "" // the watch cache would ignore the limit
	}
	defer f.impatient(ctx)()
	list, err := f.list.ListWithContextFunc(ctx, o)
	if err != nil { // what a list brings is told once it was taken up, see store.Replace
		f.failed(ctx, err)
	}
	return list, err
}

// WatchWithContext implements cache.ListerWatcherWithContext.
func (f *follower) WatchWithContext(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	defer f.impatient(ctx)()
	w, err := f.list.WatchFuncWithContext(ctx, o)
	first := o.SendInitialEvents != nil && *o.SendInitialEvents
	switch {
	case err != nil && first && refusesWatchList(err): // the reflector lists instead, and that tells
	case err != nil:
		f.failed(ctx, err)
	case !first:
		f.tell(ctx, func(now time.Time) []event.Synced { return f.s.health.works(f.resource, false, now) })
	}
	return w, err
}

// refusesWatchList says whether a server may have declined only this way of looking.
func refusesWatchList(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return false
	}
	return !apierrors.IsUnauthorized(err) && !apierrors.IsForbidden(err) && !apierrors.IsTooManyRequests(err)
}

// List and Watch implement cache.ListerWatcher, which client-go asks for and does not call.
func (f *follower) List(o metav1.ListOptions) (runtime.Object, error) {
	return f.ListWithContext(context.Background(), o)
}

// Watch implements cache.ListerWatcher; see List.
func (f *follower) Watch(o metav1.ListOptions) (watch.Interface, error) {
	return f.WatchWithContext(context.Background(), o)
}

// impatient says that the API is slow unless the returned function is called in time.
func (f *follower) impatient(ctx context.Context) func() {
	slow := f.s.opts.slow
	sent := f.s.creds.sent.Load()
	t := time.AfterFunc(slow, func() {
		why := f.s.creds.hangs(sent, slow.String())
		if why == "" {
			why = "the API has not answered for " + slow.String()
		}
		f.tell(ctx, func(now time.Time) []event.Synced { return f.s.health.fails(f.resource, why, now) })
	})
	return func() { t.Stop() }
}

// failed takes note of a request that failed.
func (f *follower) failed(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	why, failed := f.s.creds.blames(err), true
	if why == "" {
		why, failed = reason(err)
	}
	if failed {
		f.tell(ctx, func(now time.Time) []event.Synced { return f.s.health.fails(f.resource, why, now) })
	}
}

// tell writes what has become of facts.
func (f *follower) tell(ctx context.Context, what func(now time.Time) []event.Synced) {
	if f.optional {
		return
	}
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	b := f.s.begin(ctx)
	news := what(b.now)
	f.keep.settle(b) // what waited for this resource need not wait any more
	for _, synced := range news {
		b.add(event.StreamSynced, &synced)
	}
	b.send()
}
