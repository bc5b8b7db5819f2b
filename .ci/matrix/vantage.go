package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// vantage is somebody who sees less of a run than all agents and the API together. Agents know nothing of each other, so what he
// would have found is what a replay of his part of the facts finds: one run serves all.
type vantage struct {
	name string
	// one says whose agent he has, nobody else's: "pods" or "caller", the node of the service's pods or of the calling pod;
	// empty: all.
	one         string
	noInventory bool      // the API says nothing to him
	want        []verdict // nil: as from everywhere
	any         bool      // as in row
}

// from is the row as a vantage sees it. How soon something was named is measured from everywhere.
func (r row) from(v vantage) row {
	r.scenario += ", " + v.name
	if v.want != nil {
		r.want, r.any = v.want, v.any
	}
	r.sure, r.within, r.vantages = "", 0, nil
	return r
}

// replayed judges the run that path holds from a vantage.
func (r row) replayed(ctx context.Context, o options, path string, v vantage) outcome {
	facts, fault, err := v.part(path)
	if err != nil {
		return outcome{wrong: err.Error()}
	}
	cmd := exec.CommandContext(ctx, o.binary, "replay", "-", "--speed", "max", "-o", "jsonl")
	cmd.Stdin = bytes.NewReader(facts)
	var found, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &found, &said
	if err := cmd.Run(); err != nil {
		return outcome{wrong: fmt.Sprintf("replay: %v: %s", err, strings.TrimSpace(said.String()))}
	}
	out, err := judge(r.from(v), bytes.NewReader(append(fault, found.Bytes()...)))
	if err != nil {
		out.wrong = err.Error()
	}
	if out.wrong != "" {
		kept := strings.TrimSuffix(path, ".jsonl") + "-" + strings.ReplaceAll(v.name, " ", "-") + ".jsonl"
		if err := os.WriteFile(kept, append(facts, fault...), 0o644); err == nil {
			out.wrong += "\n  what was seen of it is kept in " + kept
		}
	}
	return out
}

// part returns the facts of a stream that the vantage sees, and the line of the fault.
func (v vantage) part(path string) (facts, fault []byte, err error) {
	stream, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	type seen struct {
		Type, Source string
		Pod          struct{ Name, Node string }
	}
	var lines []seen
	nodes := map[string]string{} // by whose they are
	split := bytes.SplitAfter(bytes.TrimRight(stream, "\n"), []byte("\n"))
	for _, text := range split {
		var l seen
		if err := json.Unmarshal(text, &l); err != nil {
			return nil, nil, err
		}
		lines = append(lines, l)
		whose := "pods"
		if strings.HasPrefix(l.Pod.Name, "caller-") {
			whose = "caller"
		}
		if l.Type == "pod.changed" && nodes[whose] == "" {
			nodes[whose] = l.Pod.Node
		}
	}
	if v.one != "" && nodes[v.one] == "" {
		return nil, nil, fmt.Errorf("nobody says which node is that of the %s", v.one)
	}
	for i, l := range lines {
		text := split[i]
		if !bytes.HasSuffix(text, []byte("\n")) {
			text = append(slices.Clone(text), '\n')
		}
		agent, isAgent := strings.CutPrefix(l.Source, "agent/")
		switch {
		case l.Type == "lab.fault":
			fault = text
		case strings.HasPrefix(l.Type, "incident."), l.Source == "lab":
		case v.noInventory && l.Source == "kube":
		case v.one != "" && isAgent && agent != nodes[v.one]:
		default:
			facts = append(facts, text...)
		}
	}
	return facts, fault, nil
}
