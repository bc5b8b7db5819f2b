package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"

	"github.com/midhop/midhop/tracer/event"
)

// vocabulary is what the source text of package event says: comments by name, and the values of its named strings.
type vocabulary struct {
	types  map[string]string   // comment of a type by its name
	fields map[string]string   // comment of a field by "Struct.Field"
	values map[string][]string // values of a named string type, without the empty one
	events map[event.Type]string
}

func readVocabulary(dir string) (*vocabulary, error) {
	v := &vocabulary{types: map[string]string{}, fields: map[string]string{}, values: map[string][]string{}, events: map[event.Type]string{}}
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("no source of package event in %s: %w", dir, fs.ErrNotExist)
	}
	comments := map[string]string{} // of the constants of Type
	texts := map[string]string{}    // their text forms
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		for _, decl := range file.Decls {
			if general, ok := decl.(*ast.GenDecl); ok {
				v.readDecl(general, comments, texts)
			}
		}
	}
	for name, text := range texts {
		if t, ok := event.ParseType(text); ok {
			v.events[t] = comments[name]
		}
	}
	for _, t := range event.Types() {
		if v.events[t] == "" {
			return nil, fmt.Errorf("the constant of %s has no comment", t)
		}
	}
	return v, nil
}

func (v *vocabulary) readDecl(decl *ast.GenDecl, comments, texts map[string]string) {
	for _, spec := range decl.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			doc := spec.Doc
			if doc == nil {
				doc = decl.Doc
			}
			v.types[spec.Name.Name] = clean(doc)
			if structure, ok := spec.Type.(*ast.StructType); ok {
				v.readFields(spec.Name.Name, structure)
			}
		case *ast.ValueSpec:
			for _, name := range spec.Names {
				comments[name.Name] = clean(spec.Comment)
			}
			v.readConstant(spec)
			readTexts(spec, texts)
		}
	}
}

func (v *vocabulary) readFields(structure string, s *ast.StructType) {
	for _, field := range s.Fields.List {
		text := strings.TrimSpace(clean(field.Doc) + " " + clean(field.Comment))
		for _, name := range field.Names {
			v.fields[structure+"."+name.Name] = text
		}
	}
}

// readConstant notes the value of a constant of a named string type.
func (v *vocabulary) readConstant(spec *ast.ValueSpec) {
	of, ok := spec.Type.(*ast.Ident)
	if !ok {
		return
	}
	for _, value := range spec.Values {
		literal, ok := value.(*ast.BasicLit)
		if !ok || literal.Kind != token.STRING {
			continue
		}
		if text, err := strconv.Unquote(literal.Value); err == nil && text != "" {
			v.values[of.Name] = append(v.values[of.Name], text)
		}
	}
}

// readTexts reads the table of the types' text forms.
func readTexts(spec *ast.ValueSpec, texts map[string]string) {
	if len(spec.Names) != 1 || spec.Names[0].Name != "typeNames" || len(spec.Values) != 1 {
		return
	}
	table, ok := spec.Values[0].(*ast.CompositeLit)
	if !ok {
		return
	}
	for _, element := range table.Elts {
		pair := element.(*ast.KeyValueExpr)
		if text, err := strconv.Unquote(pair.Value.(*ast.BasicLit).Value); err == nil {
			texts[pair.Key.(*ast.Ident).Name] = text
		}
	}
}

// clean turns a comment into one line, without the brackets of links.
func clean(c *ast.CommentGroup) string {
	text := strings.Join(strings.Fields(c.Text()), " ")
	for _, open := range []string{"[event.", "["} {
		for from := 0; ; {
			i := strings.Index(text[from:], open)
			if i < 0 {
				break
			}
			i += from
			end := strings.IndexByte(text[i:], ']')
			if end < 0 || !isName(text[i+len(open):i+end]) {
				from = i + 1
				continue
			}
			text = text[:i] + text[i+len(open):i+end] + text[i+end+1:]
		}
	}
	return text
}

func isName(text string) bool {
	for _, r := range text {
		if (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '.' {
			return false
		}
	}
	return text != ""
}

// member is one JSON member of a struct.
type member struct {
	name     string
	required bool
	kind     reflect.Type
	about    string
	closed   []string // all values that a text may have; nil where it is open
}

// members returns the JSON members of a struct, in their order.
func (v *vocabulary) members(t reflect.Type) []member {
	var all []member
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		m := member{name: name, required: options == "", kind: f.Type, about: v.fields[t.Name()+"."+f.Name]}
		m.closed = closed[t.Name()+"."+f.Name]
		if m.closed == nil && f.Type.Kind() == reflect.String && f.Type != reflect.TypeFor[string]() {
			m.closed = v.values[f.Type.Name()]
		}
		all = append(all, m)
	}
	return all
}

// closed lists the values of texts that are a set but have no Go type of their own.
var closed = map[string][]string{
	"Synced.Fact": {"sockets", "nat", "nodes", "pods", "services"},
	"Progress.State": {"established", "syn_sent", "syn_recv", "fin_wait1", "fin_wait2", "time_wait", "close", "close_wait",
		"last_ack", "listen", "closing", "unknown"},
	"Progress.Kind":    {"rto", "tail_loss", "fast", "syn", "keepalive", "window"},
	"Reset.By":         {"peer", "local", "nobody's"},
	"TCPFact.How":      {"fin", "rst", "abort", "app", "relief"},
	"Stall.DeadlineIs": {"exact", "lower_bound"},
	"NAT.Proto":        {"tcp"},
	"NAT.Kinds":        {"snat", "dnat"},
	"NATFact.Rung":     {"ctnetlink", "dump", "fexit", "kprobe", "kprobe.multi", "cilium", "calico"},
	"NATFact.Why":      {"closed", "timeout", "flushed", "netns", "unknown"},
	"NATFact.State": {"syn_sent", "syn_recv", "established", "fin_wait", "close_wait", "last_ack", "time_wait", "close",
		"syn_sent2"},
	"NodeFact.What":    {"added", "changed", "removed", "rebooted", "agent"},
	"Node.Spot":        {"preemptible", "spot"},
	"Node.Ready":       {"true", "false", "unknown"},
	"PodFact.What":     {"added", "changed", "removed"},
	"ServiceFact.What": {"added", "changed", "removed"},
	"Service.Policy":   {"Cluster", "Local"},
	"Remedy.When":      {"now", "soon", "cure"},
}
