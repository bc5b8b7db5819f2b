package diagnose

import (
	"fmt"
	"slices"
)

// result is what came of one run.
type result struct {
	right, wrong, missed int // names when the score was taken
	top, kind            bool
	single               bool // something was named, and no tie
	unsure               int  // ties
	falsely              int  // judgements that named something healthy
	false_               []string
	named                int // seconds from the fault to the first right name, -1: never
	brier                float64
	affected, truths     int
	votes                [2]votes
}

type votes struct{ right, wrong, missed int }

func (c *culprit) told() string { return c.kind.String() + " " + c.name }

// same says whether a name is right whatever kind it was called.
func same(c *culprit, truth string) bool {
	return truth == c.told() || machine(c.kind) && truth == "node "+c.name
}

// judge notes one judgement of a run, second seconds after the fault.
func (r *result) judge(l *likelihood, found []culprit, truth []string, second int) {
	bad := false
	for i := range found {
		c := &found[i]
		if !c.certain() {
			continue
		}
		switch {
		case !slices.ContainsFunc(truth, func(s string) bool { return same(c, s) }):
			bad = true
			if len(r.false_) < 3 {
				r.false_ = append(r.false_, fmt.Sprintf("%s at %d s, loss %.4f against %.5f, gain %.1f, %d of %d flows bad",
					c.told(), second, c.rate, c.background, c.gain, c.through.bad, c.through.flows))
			}
		case r.named < 0:
			r.named = second + 1
		}
	}
	if bad {
		r.falsely++
	}
}

// score compares what is named at the end with the truth.
func (r *result) score(found []culprit, truth []string) {
	first := true
	hit := make(map[string]bool)
	for i := range found {
		c := &found[i]
		if !c.certain() {
			r.unsure++
			continue
		}
		right := slices.IndexFunc(truth, func(s string) bool { return same(c, s) })
		if first {
			r.single, r.top, first = true, right >= 0, false
			r.kind = slices.ContainsFunc(truth, func(s string) bool { return len(s) > 3 && s[:3] == c.told()[:3] })
		}
		ok := 0.0
		switch {
		case right < 0:
			r.wrong++
		case !hit[truth[right]]:
			r.right++
			hit[truth[right]] = true
			ok = 1
		default:
			ok = 1 // the same machine in its other role
		}
		r.brier += (c.confidence - ok) * (c.confidence - ok)
	}
	r.missed = len(truth) - len(hit)
}

// scoreVotes judges the window as 007 does: every bad flow gives each of its components a vote of 1/h; what has the most
// votes is named and its flows leave, until nothing has a given share of all votes.
func scoreVotes(l *likelihood, truth []string, threshold float64, least uint32) (out votes) {
	l.prepare()
	votes := make([]float64, len(l.members))
	total := 0.0
	list := slices.DeleteFunc(slices.Clone(l.scratch.bad), func(p pathID) bool {
		c := l.seen(p)
		return c.resent < least && (least == 1 || c.stalled == 0)
	})
	cast := func(p pathID, sign float64) {
		h := 0.0
		for _, c := range l.tracks[p].parts {
			if c != 0 {
				h++
			}
		}
		for _, c := range l.tracks[p].parts {
			if c != 0 {
				votes[c] += sign / h
			}
		}
	}
	for _, p := range list {
		cast(p, 1)
		total++
	}
	hit := make(map[string]bool)
	for len(list) > 0 {
		top := 1
		for c := range votes {
			if votes[c] > votes[top] {
				top = c
			}
		}
		if votes[top] < threshold*total || votes[top] < 1e-6 {
			break
		}
		c := culprit{kind: l.members[top].kind, name: l.members[top].name}
		if i := slices.IndexFunc(truth, func(s string) bool { return same(&c, s) }); i >= 0 {
			hit[truth[i]] = true
		} else {
			out.wrong++
		}
		list = slices.DeleteFunc(list, func(p pathID) bool {
			if slices.Contains(l.tracks[p].parts[:], component(top)) {
				cast(p, -1)
				return true
			}
			return false
		})
	}
	out.right, out.missed = len(hit), len(truth)-len(hit)
	return out
}

// score adds up the runs of one cell, or of several.
type score struct {
	fault                *fault
	runs                 int
	right, wrong, missed int
	top                  int
	enough, topOfEnough  int // runs with enough flows through the culprit
	named, kind, unsure  int
	falsely              int
	false_               []string
	times                []int
	brier                float64
	votes                [2]votes
}

func (s *score) add(r *result) {
	s.runs++
	s.right += r.right
	s.wrong += r.wrong
	s.missed += r.missed
	if r.top {
		s.top++
	}
	if r.affected >= enoughFlows {
		s.enough++
		if r.top {
			s.topOfEnough++
		}
	}
	if r.single {
		s.named++
		if r.kind {
			s.kind++
		}
	}
	s.unsure += r.unsure
	s.falsely += r.falsely
	s.false_ = append(s.false_, r.false_...)
	if r.named >= 0 {
		s.times = append(s.times, r.named)
	}
	s.brier += r.brier
	for i := range r.votes {
		s.votes[i].right += r.votes[i].right
		s.votes[i].wrong += r.votes[i].wrong
		s.votes[i].missed += r.votes[i].missed
	}
}

func (s *score) merge(o *score) {
	s.runs += o.runs
	s.right += o.right
	s.wrong += o.wrong
	s.missed += o.missed
	s.top += o.top
	s.enough += o.enough
	s.topOfEnough += o.topOfEnough
	s.named += o.named
	s.kind += o.kind
	s.unsure += o.unsure
	s.falsely += o.falsely
	s.times = append(s.times, o.times...)
	s.brier += o.brier
	for i := range o.votes {
		s.votes[i].right += o.votes[i].right
		s.votes[i].wrong += o.votes[i].wrong
		s.votes[i].missed += o.votes[i].missed
	}
}

// bounds returns what a cell falls short of.
func (s *score) bounds() (broken []string) {
	f := s.fault
	if f.node >= enoughLoss && ratio(s.topOfEnough, s.enough) < leastTop {
		broken = append(broken, fmt.Sprintf("the culprit is on top in %d of %d runs", s.topOfEnough, s.enough))
	}
	if f.node >= enoughLoss && ratio(s.kind, s.named) < leastKind {
		broken = append(broken, fmt.Sprintf("its kind is right in %d of %d runs", s.kind, s.named))
	}
	if f.null && s.falsely > 0 {
		broken = append(broken, fmt.Sprintf("%d judgements name something healthy: %s", s.falsely, s.false_[0]))
	}
	return broken
}

func ratio(n, of int) float64 {
	if of == 0 {
		return 1
	}
	return float64(n) / float64(of)
}

func share2(n, of int) string {
	if of == 0 {
		return "-"
	}
	return fmt.Sprintf("%.3f", float64(n)/float64(of))
}

func (s *score) String() string {
	p50, p95 := "-", "-"
	if n := len(s.times); n > 0 {
		slices.Sort(s.times)
		p50, p95 = fmt.Sprint(s.times[n/2]), fmt.Sprint(s.times[min(n-1, n*95/100)])
	}
	brier := "-"
	if n := s.right + s.wrong; n > 0 {
		brier = fmt.Sprintf("%.3f", s.brier/float64(n))
	}
	text := fmt.Sprintf("%d\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t%s\t%s\t%s\t", s.runs, share2(s.right, s.right+s.wrong), share2(s.right, s.right+s.missed),
		share2(s.top, s.named), share2(s.topOfEnough, s.enough), share2(s.kind, s.named), s.unsure, s.falsely, p50, p95, brier)
	for _, v := range s.votes {
		text += fmt.Sprintf("%s\t%s\t", share2(v.right, v.right+v.wrong), share2(v.right, v.right+v.missed))
	}
	return text
}
