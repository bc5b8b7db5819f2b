package nodefile

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/source/kubenode"
)

// Error says what is wrong with a nodes file and where.
type Error struct {
	File   string
	Where  string // a field, such as nodes[2].podCIDRs[0]; empty where it is about the whole
	Err    error
	remedy string
}

// Error implements error.
func (e *Error) Error() string {
	if e.Where == "" {
		return fmt.Sprintf("nodes file %s: %v", e.File, e.Err)
	}
	return fmt.Sprintf("nodes file %s: %s: %v", e.File, e.Where, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Effect says what follows.
func (e *Error) Effect() string { return "no node has a name, so nothing was begun" }

// Remedy is what helps.
func (e *Error) Remedy() string { return e.remedy }

// maxSize bounds what is read: 10,000 nodes as kubectl prints them have about 200 MB.
const maxSize = 512 << 20

const wanted = "want a list of nodes (name, addresses, podCIDRs, labels) or what `kubectl get nodes -o json` prints"

// List is what a nodes file says.
type List struct {
	Nodes []event.Node // in the order of their first word
	// Warnings tell, each in a sentence with its place, what was left out or is in doubt; further ones are counted in the last.
	Warnings []string
}

// Read reads all nodes of a file, whose name errors carry. What cannot be read of it is left out with a warning; only a file without
// any address or range that could be used is an error, always an [*Error]. It holds one object at a time.
func Read(r io.Reader, file string) (List, error) {
	fail := func(where string, err error) (List, error) {
		e := &Error{File: file, Where: where, Err: err, remedy: theCommand}
		var r remedied
		if errors.As(err, &r) {
			e.remedy = r.remedy
		}
		return List{}, e
	}
	limited := &limitReader{r: r, left: maxSize}
	in, err := plain(limited)
	if err != nil {
		return fail("", err)
	}
	bounded := bufio.NewReaderSize(&limitReader{r: in, left: maxSize}, 64<<10)
	head, err := bounded.Peek(4 << 10)
	if err != nil && err != io.EOF {
		return fail("", err)
	}
	if err := foreign(head); err != nil {
		return fail("", err)
	}
	l := &list{at: make(map[string]int), others: make(map[string]*kubenode.Beside)}
	if err := l.read(bounded, head); err != nil {
		return fail("", err)
	}
	return l.finish(fail)
}

// smallText is up to which size a text that looks like JSON and is none is tried as YAML, whose flow form looks like it.
const smallText = 1 << 20

func (l *list) read(in *bufio.Reader, head []byte) error {
	start := bytes.TrimLeft(head, " \t\r\n")
	if len(start) == 0 || start[0] != '{' && start[0] != '[' {
		return l.readYAML(in)
	}
	first, err := io.ReadAll(io.LimitReader(in, smallText))
	if err != nil {
		return err
	}
	err = l.readJSON(io.MultiReader(bytes.NewReader(first), in))
	var syntax *syntaxError
	if errors.As(err, &syntax) && len(first) < smallText && !syntax.cut {
		*l = list{at: make(map[string]int), others: make(map[string]*kubenode.Beside)}
		if l.readYAML(bufio.NewReader(bytes.NewReader(first))) == nil {
			return nil
		}
	}
	return err
}

// limitReader refuses what is longer than anybody's list.
type limitReader struct {
	r    io.Reader
	left int64
}

func (l *limitReader) Read(b []byte) (int, error) {
	if l.left <= 0 {
		return 0, fmt.Errorf("longer than %d MiB", maxSize>>20)
	}
	n, err := l.r.Read(b[:min(int64(len(b)), l.left)])
	l.left -= int64(n)
	return n, err
}

// list gathers what a file says.
type list struct {
	nodes    []event.Node
	at       map[string]int // by name
	others   map[string]*kubenode.Beside
	lacking  *object // an object of a kind that tells of nodes and holds none
	calico   int     // Nodes of calicoctl's
	again    int     // nodes that stand there more than once
	againIs  string
	warnings []string
	more     int
	first    *problem // what was wrong first
}

type problem struct {
	where string
	err   error
}

// maxWarnings bounds what is told of one file.
const maxWarnings = 10

func (l *list) warn(text string) {
	if len(l.warnings) == maxWarnings {
		l.more++
		return
	}
	l.warnings = append(l.warnings, text)
}

// wrong notes something that cannot be used.
func (l *list) wrong(where string, err error) {
	if l.first == nil {
		l.first = &problem{where, err}
	}
	l.warn(strings.TrimPrefix(fmt.Sprintf("%s: %v", where, err), ": "))
}

// add takes up a node. Where it stands there before, its newest word counts: kubectl get -w prints it with every change.
func (l *list) add(n event.Node, where string) {
	if i, ok := l.at[n.Name]; ok {
		if l.again++; l.again == 1 {
			l.againIs = join(where, "") + " is " + n.Name
		}
		l.nodes[i] = n
		return
	}
	l.at[n.Name] = len(l.nodes)
	l.nodes = append(l.nodes, n)
}

func (l *list) forget(name string) {
	if i, ok := l.at[name]; ok {
		l.nodes[i].Name = ""
		delete(l.at, name)
	}
}

func (l *list) beside(name string, b kubenode.Beside, o *object) {
	if l.lacking == nil {
		l.lacking = o
	}
	if l.others[name] == nil {
		l.others[name] = &kubenode.Beside{}
	}
	l.others[name].Join(b)
}

// finish joins what several objects say of a node, and refuses what names none.
func (l *list) finish(fail func(string, error) (List, error)) (List, error) {
	l.nodes = slices.DeleteFunc(l.nodes, func(n event.Node) bool { return n.Name == "" })
	usable := false
	var claims kubenode.Claims
	var clashes []string
	for i := range l.nodes {
		n := &l.nodes[i]
		if b := l.others[n.Name]; b != nil {
			b.Add(n)
		}
		usable = usable || len(n.Addresses)+len(n.PodCIDRs) > 0
		clashes = append(clashes, claims.Take(n)...)
	}
	switch {
	case usable:
	case l.first != nil:
		return fail(l.first.where, l.first.err)
	case len(l.nodes) > 0:
		return fail("", remedied{fmt.Errorf("%s: none has an address or a range of pods", nodesOf(l.nodes)), theCommand})
	case l.lacking != nil:
		return fail("", wrongKind(l.lacking))
	default:
		return fail("", errors.New("no nodes; "+wanted))
	}
	if l.calico > 0 {
		l.warn(fmt.Sprintf("%d of %d are Nodes as calicoctl prints them: their addresses are used, and nothing is known of their state, cloud and taints; kubectl get nodes -o json has both", l.calico, len(l.nodes)))
	}
	if l.again > 0 {
		l.warn(fmt.Sprintf("%d times a node stands there again (%s): the last word counts", l.again, l.againIs))
	}
	if none := kubenode.Unrecognisable(l.nodes); len(none) > 0 {
		l.warn(fmt.Sprintf("without any address or range of pods: %s; nothing that crosses them can be known to", kubenode.FewOf(none)))
	}
	for _, text := range clashes {
		l.warn(text)
	}
	if l.more > 0 {
		l.warnings = append(l.warnings, fmt.Sprintf("and %d more of the kind", l.more))
	}
	return List{Nodes: l.nodes, Warnings: l.warnings}, nil
}

func nodesOf(nodes []event.Node) string {
	names := make([]string, len(nodes))
	for i := range nodes {
		names[i] = nodes[i].Name
	}
	return kubenode.FewOf(names)
}
