package diagnose

import (
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/midhop/midhop/tracer/model"
)

// TestGroup: a group counts what it is given by hop, machine and pod, in whichever order that comes, and dates its trouble
// by the third socket that was seen in it.
func TestGroup(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 9))
	for n := 1; n < 60; n++ {
		hops := []model.Hop{{Key: model.HopKey{Kind: model.KindNode, Name: "node-a"}}, {Key: model.HopKey{Kind: model.KindNode, Name: "node-b"}}}
		backends := []netip.Addr{{}, netip.MustParseAddr("10.48.2.5"), netip.MustParseAddr("10.48.2.6")}
		sources := []string{"agent/node-c", "agent/node-d"}
		g := newGroup()
		byHop, byPod, bySource := make(map[model.HopKey]int), make(map[netip.Addr]int), make(map[string]bool)
		var seen []model.Instant
		for range n {
			h, b, s := &hops[r.IntN(2)], backends[r.IntN(3)], sources[r.IntN(2)]
			at := model.Instant(1 + r.IntN(20))
			g.add(h, &model.Troubled{Source: s, Backend: b, First: at})
			byHop[h.Key]++
			byPod[b]++
			bySource[s] = true
			seen = append(seen, at)
		}
		g.close()
		slices.Sort(seen)
		if want := seen[min(n, breadth)-1]; g.first != want {
			t.Errorf("of %d in trouble since %v the third is %v, want %v", n, seen, g.first, want)
		}
		if g.sockets != n || !maps.Equal(g.hops, byHop) || !maps.Equal(g.backends, byPod) || !maps.Equal(g.sources, bySource) {
			t.Errorf("%d sockets: %v %v %v, want %d: %v %v %v", g.sockets, g.hops, g.backends, g.sources, n, byHop, byPod, bySource)
		}
	}
}
