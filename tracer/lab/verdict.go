package lab

// Nobody is the kind of a verdict that names no node: whatever is said, its culprit is something else, or unknown.
const Nobody = "nobody"

// Verdict is one thing that midhop should conclude.
type Verdict struct {
	Rule string // the rule, as its last update names it; empty: any
	Kind string // the culprit's kind, as in event.CulpritKind, or [Nobody]
	Name string // the culprit's name
	May  bool   // it need not be found
	Ends bool   // its incident may be closed by the end: what was last said of it counts
}

// Fits says whether an incident with this rule and culprit is the verdict.
func (v Verdict) Fits(rule, kind, name string) bool {
	return (v.Rule == "" || v.Rule == rule) && v.Blames(kind, name)
}

// Blames says whether a culprit is the verdict's, whatever the rule.
func (v Verdict) Blames(kind, name string) bool {
	switch v.Kind {
	case Nobody:
		return kind != "node" && kind != "local_node"
	case "unknown":
		return kind == v.Kind
	}
	return kind == v.Kind && name == v.Name
}

// String is the verdict in a few words.
func (v Verdict) String() string {
	said := v.Rule
	if said == "" {
		said = "something"
	}
	switch {
	case v.Kind == Nobody && v.May:
		return "no node named"
	case v.Kind == Nobody:
		return said + ", no node named"
	case v.Name == "":
		return said + ", " + v.Kind
	}
	return said + ", " + v.Kind + " " + v.Name
}

// Expected are the verdicts of the scenario, without the names that a lab gives.
func (s Scenario) Expected() []Verdict {
	if s.Kind == "" {
		return nil
	}
	out := []Verdict{{Rule: s.Rule, Kind: s.Kind, May: s.May, Ends: s.Ends}}
	if s.Second != "" {
		out = append(out, Verdict{Rule: s.Second, Kind: s.Kind})
	}
	return out
}

// expected names the verdicts for a plan, none where the right answer is that nothing is wrong.
func (s Scenario) expected(p *plan, noFault bool) []Verdict {
	if noFault {
		return nil
	}
	out := s.Expected()
	for i := range out {
		out[i].Name = s.targetName(p)
		if i > 0 {
			out[i].Name = p.Nodes[p.Second].Name
		}
		if s.Kind == Nobody {
			out[i].Name = ""
		}
	}
	return out
}

// targetName is the name of what the fault hits, empty where there is nothing to hit.
func (s Scenario) targetName(p *plan) string {
	switch s.target {
	case targetVictim:
		return p.Nodes[p.Victim].Name
	case targetHome:
		return p.Nodes[p.Home].Name
	case targetCaller:
		return p.Nodes[p.Caller.Node].Name
	case targetPod:
		return p.Pods[0].Namespace + "/" + p.Pods[0].Name
	case targetClient:
		return p.External.Prefix.String()
	case targetService:
		return p.Service.Namespace + "/" + p.Service.Name
	case targetPeers:
		return p.Peers.Prefix.String()
	case targetOutside:
		return p.Outside[0].String()
	case targetFloating:
		return p.Floating.String()
	}
	return ""
}
