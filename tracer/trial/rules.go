package trial

import "slices"

// kinds says which primitives make which rules right: what a rule says happened is what the primitive does. The first
// primitives' rules are wanted; the others' may be said, as they are true too from where midhop stands.
var kinds = map[string][]string{
	"node-gone":        {"power", "freeze", "uplink", "scale", "drain", "oneway", "route"},
	"node-rebooted":    {"power"},
	"nat-lost":         {"flush", "power", "rules"},
	"idle-expired":     {"idle"},
	"conntrack-full":   {"full"},
	"snat-exhausted":   {"ports"},
	"node-lossy":       {"loss"},
	"pmtu-blackhole":   {"narrow"},
	"pod-gone":         {"pod", "replace"},
	"service-down":     {"pod", "replace", "rules", "fresh", "full", "ports", "power", "scale", "drain", "uplink", "freeze", "oneway", "route"},
	"local-node":       {"uplink", "oneway", "freeze", "route"},
	"client-gone":      {"clients", "vanish"},
	"peer-not-reading": {"hung"},
	"front-gone":       {"clients", "forget", "oneway", "uplink", "fresh"},
	"vip-moved":        {"forget"},
	"peer-unreachable": nil,
	"unexplained":      nil,
}

// honest are rules that name nobody: they are right wherever no better one is wanted.
var honest = []string{"unexplained", "peer-unreachable", "front-gone"}

// best says which rules are wanted for a primitive, where an agent sees its victims. Primitives without a row want nothing
// but that something is said.
var best = map[string][]string{
	"power":   {"node-gone", "node-rebooted", "nat-lost"},
	"scale":   {"node-gone"},
	"freeze":  {"node-gone"},
	"uplink":  {"node-gone", "local-node"},
	"flush":   {"nat-lost"},
	"idle":    {"idle-expired"},
	"full":    {"conntrack-full"},
	"ports":   {"snat-exhausted"},
	"loss":    {"node-lossy"},
	"narrow":  {"pmtu-blackhole"},
	"pod":     {"pod-gone"},
	"clients": {"client-gone"},
	"hung":    {"peer-not-reading"},
}

// fits says whether a rule may be said of what a primitive did.
func fits(rule, primitive string) bool { return slices.Contains(kinds[rule], primitive) }
