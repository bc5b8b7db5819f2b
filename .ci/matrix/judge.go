package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
)

// outcome is what one run came to, read off its stream by somebody who does not trust the lab's own word.
type outcome struct {
	wrong  string                    // empty: as expected
	took   time.Duration             // from the fault to the first incident that named what was to be named; 0: none
	final  time.Duration             // to the last of the expected rules
	finals map[verdict]time.Duration // to each
	from   []outcome                 // what the row's vantages came to, in their order
}

// line is what the judge reads of a line.
type line struct {
	Type     string    `json:"type"`
	Time     time.Time `json:"time"`
	Target   string    `json:"target"` // lab.fault
	Incident struct {
		ID      string `json:"id"`
		Rule    string `json:"rule"`
		Culprit struct {
			Kind string `json:"kind"`
			Name string `json:"name"`
			Sure string `json:"sure"`
		} `json:"culprit"`
	} `json:"incident"`
}

// silent is what is wrong with a run that never came to its stream.
const silent = "wrote nothing"

// maxLine is the contract's longest line, and a little.
const maxLine = 128 << 10

// judge reads a complete stream. The fault's line may stand after what it brought about: it is written when the fault
// was made, and stamped with the moment before.
func judge(r row, stream io.Reader) (outcome, error) {
	var (
		fault     line
		incidents []line
		lines     int
	)
	in := bufio.NewScanner(stream)
	in.Buffer(nil, maxLine)
	for in.Scan() {
		var l line
		if err := json.Unmarshal(in.Bytes(), &l); err != nil {
			return outcome{}, fmt.Errorf("line %d: %w", lines+1, err)
		}
		lines++
		switch {
		case l.Type == "lab.fault":
			fault = l
		case strings.HasPrefix(l.Type, "incident."):
			incidents = append(incidents, l)
		}
	}
	if err := in.Err(); err != nil {
		return outcome{}, err
	}
	if lines == 0 {
		return outcome{wrong: silent}, nil
	}
	return r.weigh(fault, incidents), nil
}

// weigh goes through what was said.
func (r row) weigh(fault line, incidents []line) outcome {
	o := outcome{finals: map[verdict]time.Duration{}}
	open, last := map[string]line{}, map[string]line{}
	for _, l := range incidents {
		after := l.Time.Sub(fault.Time)
		if o.wrong == "" && (fault.Time.IsZero() || after < 0 || !r.allows(l, fault.Target)) {
			o.wrong = fmt.Sprintf("%s: %s on %s %q", l.Type, l.Incident.Rule, l.Incident.Culprit.Kind, l.Incident.Culprit.Name)
		}
		if _, ok := r.verdictOf(l, fault.Target, false); ok && o.took == 0 {
			o.took = after
		}
		if v, ok := r.verdictOf(l, fault.Target, true); ok && o.finals[v] == 0 {
			o.finals[v] = after
		}
		last[l.Incident.ID] = l
		if open[l.Incident.ID] = l; l.Type == "incident.closed" {
			delete(open, l.Incident.ID)
		}
	}
	found := 0
	for _, v := range r.want {
		o.final = max(o.final, o.finals[v])
		said := open
		if v.ends {
			said = last
		}
		stands := r.stands(v, said, fault.Target)
		if stands {
			found++
		}
		if o.wrong == "" && !v.may && !stands {
			o.wrong = "missed " + v.String()
		}
	}
	if r.any && found == 0 && o.wrong == "" {
		o.wrong = "missed " + r.verdict()
	}
	if r.most > 0 && len(last) > r.most && o.wrong == "" {
		o.wrong = fmt.Sprintf("%d incidents for one cause", len(last))
	}
	return o
}

// allows says whether an incident may be said on the way to the verdict: its rule may be refined and its culprit unknown,
// but it names nobody who is well.
func (r row) allows(l line, target string) bool {
	if k := l.Incident.Culprit.Kind; len(r.want) > 0 && (k == "unknown" || k == "address") {
		return true
	}
	if r.scenario == "service-down" && l.Incident.Rule == "pod-gone" {
		return true // all pods are gone, and there are no others
	}
	_, ok := r.verdictOf(l, target, false)
	return ok
}

// verdictOf finds the verdict whose culprit an incident names, with exact only by the same rule.
func (r row) verdictOf(l line, target string, exact bool) (verdict, bool) {
	c := l.Incident.Culprit
	for _, v := range r.want {
		switch {
		case v.sure != "" && c.Sure != v.sure:
		case exact && (v.rule != "" && l.Incident.Rule != v.rule || r.sure != "" && c.Sure != r.sure):
		case v.kind == nobody:
			if c.Kind != "node" && c.Kind != "local_node" {
				return v, true
			}
		case c.Kind != v.kind:
		case v.kind == "unknown" || v.other && c.Name != target && l.Incident.Rule == v.rule || !v.other && c.Name == target:
			return v, true
		}
	}
	return verdict{}, false
}

func (r row) stands(v verdict, open map[string]line, target string) bool {
	for _, l := range open {
		if got, ok := r.verdictOf(l, target, true); ok && got == v {
			return true
		}
	}
	return false
}
