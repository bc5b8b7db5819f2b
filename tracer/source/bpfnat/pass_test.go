package bpfnat

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// told lists what a pass says, a line for each translation, in order.
func told(all []translation) []string {
	var out []string
	for _, t := range all {
		line := fmt.Sprintf("%s -> %s, %s sees %s, %s", t.original.Src, t.original.Dst, t.reply.Src, t.reply.Dst, t.state)
		if t.hop.From != "" {
			line += fmt.Sprintf(", crosses %s%s", t.hop.Node, t.hop.IP)
		}
		out = append(out, line)
	}
	slices.Sort(out)
	return out
}

// TestCiliumDatapath holds the decoders against entries that Cilium's own datapath has written: see the fixture's lines on
// which packets went in and came out.
func TestCiliumDatapath(t *testing.T) {
	now := moment{wall: time.Unix(1_800_000_000, 0).UTC(), mono: 3360 * time.Second}
	sections := readFixture(t, "testdata/cilium-1.18.2.txt")
	for _, c := range []struct {
		section string
		uptime  time.Duration
		want    []string
	}{
		{"lb-1.18.2", 3360 * time.Second, []string{
			// 37317 is an orphan: the forward entry names 44214.
			"110.0.11.1:111 -> 172.16.10.2:80, 192.168.0.2:8080 sees 10.0.10.1:44214, syn_sent",
			// Nothing is told of those to 192.168.0.1: their packets did not get as far as the pod.
		}},
		{"lb-1.18.2", 3420 * time.Second, nil}, // all of them have expired
		{"tc_nodeport_lb4_dsr_backend-1.18.2", 3550 * time.Second, []string{
			"110.0.11.1:111 -> 172.16.10.1:80, 192.168.0.1:8080 sees 110.0.11.1:111, syn_recv",
			"120.0.12.2:111 -> 172.16.10.1:80, 192.168.0.1:8080 sees 120.0.12.2:111, syn_sent",
		}},
		{"tc_nodeport_lb4_nat_backend-1.18.2", 3550 * time.Second, nil},
	} {
		maps := sections[c.section]
		if maps == nil {
			t.Fatalf("the fixture has no section %s", c.section)
		}
		now.mono = c.uptime
		p := ciliumPass{node: "hop", maps: ciliumMaps{family: &family4, ct: maps[ciliumCT4], snat: maps[ciliumSNAT4], services: maps[ciliumRevNAT4]}}
		var all []translation
		if err := p.run(now, func(t *translation) { all = append(all, *t) }); err != nil {
			t.Fatal(err)
		}
		slices.Sort(c.want)
		if got := told(all); !slices.Equal(got, c.want) {
			t.Errorf("%s after %s:\ngot\n  %v\nwant\n  %v", c.section, c.uptime, got, c.want)
		}
		if p.bad != 0 {
			t.Errorf("%s: %d entries were not understood", c.section, p.bad)
		}
	}
}
