package filter

import "strings"

// Record is anything that a filter can look at: a row of a table, an event.
type Record interface {
	// Field returns the text of a field, and false where the record does not have it or it is unknown.
	Field(name string) (string, bool)
}

// Filter decides on records. A nil Filter and one of an empty text take all. It is safe for concurrent use.
type Filter struct {
	text  string
	terms []term
}

type term struct {
	not    bool
	fields []string // one, or all that a bare word is looked for in
	holds  func(text string) bool
}

// Parse reads a filter over records that may have these fields. The error is an [*Error].
func Parse(text string, fields []string) (*Filter, error) {
	p := parser{text: text, fields: fields}
	f := &Filter{text: strings.Trim(text, " \t\r\n")}
	for {
		p.space()
		if p.pos == len(p.text) {
			return f, nil
		}
		t, err := p.term()
		if err != nil {
			return nil, err
		}
		f.terms = append(f.terms, t)
	}
}

// Match says whether every term holds for r.
func (f *Filter) Match(r Record) bool {
	if f == nil {
		return true
	}
	for i := range f.terms {
		if !f.terms[i].match(r) {
			return false
		}
	}
	return true
}

func (t *term) match(r Record) bool {
	for _, name := range t.fields {
		if text, ok := r.Field(name); ok && t.holds(text) {
			return !t.not
		}
	}
	return t.not
}

// String returns the text that the filter was parsed from.
func (f *Filter) String() string {
	if f == nil {
		return ""
	}
	return f.text
}

// Empty says whether the filter takes all.
func (f *Filter) Empty() bool { return f == nil || len(f.terms) == 0 }
