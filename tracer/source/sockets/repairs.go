package sockets

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/midhop/midhop/bpf"
	"github.com/midhop/midhop/tracer/event"
)

// repairer tells what was sent again without a timeout, by peer, since it was asked last; [bpf.Probes] is one.
type repairer interface {
	Repairs(f func(netns uint32, peer netip.Addr, fast, tailLoss uint64)) error
}

// repairs returns what the kernel has counted since the last look, of the namespaces that the census sees, in an order
// that depends on nothing else.
func (s *Source) repairs() []event.Repair {
	if s.repairer == nil {
		return nil
	}
	var list []event.Repair
	err := s.repairer.Repairs(func(netns uint32, peer netip.Addr, fast, tailLoss uint64) {
		if s.spaces.Known(netns) && fast+tailLoss > 0 && !bpf.SelfTestRange.Contains(peer) {
			list = append(list, event.Repair{Netns: netns, Peer: peer, Fast: fast, TailLoss: tailLoss})
		}
	})
	if err != nil {
		s.log.Warn("ordinary loss is not told by peer", "error", err) // the rows' own sums have it
		s.repairer = nil
	}
	slices.SortFunc(list, func(a, b event.Repair) int {
		return cmp.Or(cmp.Compare(a.Netns, b.Netns), a.Peer.Compare(b.Peer))
	})
	return list
}
