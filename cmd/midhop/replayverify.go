package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/midhop/midhop/tracer/event"
)

// proof compares the findings that stand in a recording with those that its facts give. What differs between any two
// runs is left out: the numbers that an Engine gives its own lines. Everything else must be equal, down to the order.
type proof struct {
	mu       sync.Mutex // the source and the sink are two goroutines
	old, new []finding
	last     event.Event // the newest fact
	lost     uint64      // facts that the recording itself says are missing
}

// finding is one finding in the form that is compared.
type finding struct {
	seq  uint64
	typ  event.Type
	what string // the incident or the connection that it is about
	line string // the whole of it, without numbers
}

func newProof() *proof { return new(proof) }

func findingOf(e event.Event) finding {
	f := finding{seq: e.Seq, typ: e.Type, what: e.Flow}
	if b, ok := e.Body.(*event.IncidentFinding); ok {
		f.what = b.Incident.ID
	}
	e.Seq, e.ID = 0, event.ID{}
	f.line = string(event.AppendJSON(nil, &e))
	return f
}

// recorded takes a line of the recording that is no fact.
func (p *proof) recorded(e event.Event) {
	if !e.Type.IsFinding() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.old = append(p.old, findingOf(e))
}

// Write takes what the Engine makes of the facts.
func (p *proof) Write(batch []event.Event) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range batch {
		if e.Type.IsFinding() {
			p.new = append(p.new, findingOf(e))
			continue
		}
		if e.Time.After(p.last.Time) {
			p.last = e
		}
		if b, ok := e.Body.(*event.Lost); ok {
			p.lost += b.Count
		}
	}
	return nil
}

// differences is at most how many are told.
const differencesTold = 5

// verdict writes what came out; the error says that the two differ.
func (p *proof) verdict(w io.Writer, name string, bad int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	same := 0
	for same < len(p.old) && same < len(p.new) && p.old[same].line == p.new[same].line {
		same++
	}
	missing, extra := p.old[same:], p.new[same:]
	note := ""
	if len(missing) == 0 && len(extra) > 0 && p.atTheEnd(extra) {
		// The writer ended between a line and what follows from it.
		note = fmt.Sprintf("; %s more at its very end, where the recording was cut off", plural(len(extra), "finding"))
		extra = nil
	}
	if bad > 0 {
		note += fmt.Sprintf("; %s could not be read", plural(bad, "line"))
	}
	if len(missing) == 0 && len(extra) == 0 {
		_, err := fmt.Fprintf(w, "%s: %s, all found again%s\n", name, plural(len(p.old), "finding"), note)
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: the facts give other findings than those recorded (%d recorded, %d found now, the first %d are equal)", name, len(p.old), len(p.new), same)
	if bad > 0 {
		fmt.Fprintf(&b, "\n  %s could not be read: their facts are missing", plural(bad, "line"))
	}
	if p.lost > 0 {
		fmt.Fprintf(&b, "\n  the recording itself says that %d events were lost", p.lost)
	}
	explainDifferences(&b, missing, extra)
	return fmt.Errorf("%s", b.String())
}

// atTheEnd says whether all of these could follow only from the newest fact.
func (p *proof) atTheEnd(list []finding) bool {
	for _, f := range list {
		e, err := event.Decode([]byte(f.line))
		if err != nil || e.Time.Before(p.last.Time) {
			return false
		}
	}
	return true
}

// explainDifferences pairs what is missing with what was found instead, as far as both are about the same.
func explainDifferences(b *strings.Builder, missing, extra []finding) {
	count := make(map[string]int)
	for _, f := range extra {
		count[f.line]++
	}
	var gone []finding
	for _, f := range missing {
		if count[f.line] > 0 {
			count[f.line]--
			continue
		}
		gone = append(gone, f)
	}
	var fresh []finding
	for _, f := range extra {
		if count[f.line] > 0 {
			count[f.line]--
			fresh = append(fresh, f)
		}
	}
	if len(gone) == 0 && len(fresh) == 0 {
		fmt.Fprintf(b, "\n  they are the same ones in another order, from seq %d on", missing[0].seq)
		return
	}
	told := 0
	for _, f := range gone {
		if told++; told > differencesTold {
			break
		}
		i := slices.IndexFunc(fresh, func(o finding) bool { return o.typ == f.typ && o.what == f.what })
		if i < 0 {
			fmt.Fprintf(b, "\n  seq %d %s is not found again: %s", f.seq, f.typ, shorten(f.line))
			continue
		}
		fmt.Fprintf(b, "\n  seq %d %s %s differs:", f.seq, f.typ, f.what)
		for _, d := range membersThatDiffer(f.line, fresh[i].line) {
			fmt.Fprintf(b, "\n    %s", d)
		}
		fresh = slices.Delete(fresh, i, i+1)
	}
	for _, f := range fresh {
		if told++; told > differencesTold {
			break
		}
		fmt.Fprintf(b, "\n  %s is found and not recorded: %s", f.typ, shorten(f.line))
	}
	if told > differencesTold {
		b.WriteString("\n  ...")
	}
}

// membersThatDiffer names the members of two objects that are not equal, with both values.
func membersThatDiffer(a, b string) []string {
	fa, fb := flatten(a), flatten(b)
	var out []string
	for _, key := range slices.Sorted(maps.Keys(fa)) {
		if other, ok := fb[key]; !ok {
			out = append(out, fmt.Sprintf("%s: %s, now absent", key, shorten(fa[key])))
		} else if other != fa[key] {
			out = append(out, fmt.Sprintf("%s: %s, now %s", key, shorten(fa[key]), shorten(other)))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(fb)) {
		if _, ok := fa[key]; !ok {
			out = append(out, fmt.Sprintf("%s: absent, now %s", key, shorten(fb[key])))
		}
	}
	const most = 8
	if len(out) > most {
		out = append(out[:most], fmt.Sprintf("and %d more", len(out)-most))
	}
	return out
}

// flatten maps the path of every value of an object to its text.
func flatten(object string) map[string]string {
	out := make(map[string]string)
	dec := json.NewDecoder(strings.NewReader(object))
	dec.UseNumber()
	var root any
	if dec.Decode(&root) != nil {
		return out
	}
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for k, child := range v {
				walk(strings.TrimPrefix(path+"."+k, "."), child)
			}
		case []any:
			for i, child := range v {
				walk(fmt.Sprintf("%s[%d]", path, i), child)
			}
		default:
			var text bytes.Buffer
			enc := json.NewEncoder(&text)
			enc.SetEscapeHTML(false)
			_ = enc.Encode(v) // a value that was just decoded
			out[path] = strings.TrimSpace(text.String())
		}
	}
	walk("", root)
	return out
}

// shorten keeps a line readable in a terminal.
func shorten(s string) string {
	const most = 300
	if len(s) <= most {
		return s
	}
	return s[:most] + "..."
}
