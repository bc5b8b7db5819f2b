package kube

import (
	"context"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"github.com/midhop/midhop/tracer/event"
)

// Leases of nodes change every 10 s each (kubelet: nodeLeaseRenewIntervalFraction 0.25 of 40 s): watching 5,000 of them
// is 500 updates a second. Only those of suspects are read, and only for a while.
const (
	leaseNamespace = "kube-node-lease"
	leaseEvery     = 5 * time.Second
	suspicionLasts = 2 * time.Minute
	// A Lease is stale when it is older than two renewals and a half, and was not renewed while we watched for more than
	// one: the second keeps a skewed clock from blaming a healthy node.
	leaseStale   = 25 * time.Second
	leaseRenewal = 10 * time.Second
	maxSuspects  = 64
)

// lease follows one suspect's Lease.
type lease struct {
	until   time.Time // of the suspicion
	renewed time.Time // as the Lease says
	since   time.Time // when this was first read, by our clock
}

// watchLeases reads the Leases of suspects until ctx ends.
func (s *Source) watchLeases(ctx context.Context) {
	suspects := make(map[string]*lease)
	tick := time.NewTicker(leaseEvery)
	defer tick.Stop()
	forbidden := false
	for {
		select {
		case <-ctx.Done():
			return
		case node := <-s.suspect:
			l := suspects[node]
			if l == nil {
				if len(suspects) >= maxSuspects {
					continue
				}
				l = &lease{}
				suspects[node] = l
				s.readLease(ctx, node, l, &forbidden)
			}
			l.until = time.Now().Add(suspicionLasts)
		case now := <-tick.C:
			for node, l := range suspects {
				if now.After(l.until) {
					delete(suspects, node)
					continue
				}
				s.readLease(ctx, node, l, &forbidden)
			}
		}
	}
}

// readLease reads one Lease and tells whether it is stale.
func (s *Source) readLease(ctx context.Context, node string, l *lease, forbidden *bool) {
	ctx, cancel := context.WithTimeout(ctx, leaseEvery)
	defer cancel()
	var got coordinationv1.LeaseList // a list of one: no right is needed but to list
	only := metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", node).String()}
	err := s.clients.coordination.Get().Namespace(leaseNamespace).Resource("leases").VersionedParams(&only, metav1.ParameterCodec).Do(ctx).Into(&got)
	if err != nil {
		if apierrors.IsForbidden(err) && !*forbidden {
			*forbidden = true
			s.opts.Log.Warn("Leases of nodes may not be read: a silent kubelet is noticed by its Ready condition, some 25 s later", "error", firstLine(err))
		}
		return
	}
	if len(got.Items) != 1 || got.Items[0].Spec.RenewTime == nil {
		return
	}
	now := time.Now()
	cause, known := l.read(got.Items[0].Spec.RenewTime.UTC(), now)
	if !known {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.nodes[node]
	if n == nil || !n.there || (n.lease == nil) == (cause == nil) {
		return
	}
	n.lease = cause
	b := s.begin(ctx)
	s.tellNode(b, n)
	b.send()
}

// read takes up what a Lease says at now, and returns the cause that it is, nil while it is renewed; it is not known before
// it could have been renewed under our eyes.
func (l *lease) read(renewed, now time.Time) (cause *event.Cause, known bool) {
	if !renewed.Equal(l.renewed) || l.since.IsZero() {
		known = !l.since.IsZero()
		l.renewed, l.since = renewed, now
		return nil, known
	}
	if now.Sub(renewed) < leaseStale || now.Sub(l.since) <= leaseRenewal {
		return nil, false
	}
	return &event.Cause{What: event.CauseLeaseStale, From: "Lease renewTime", Since: renewed}, true
}
