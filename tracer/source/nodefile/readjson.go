package nodefile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// syntaxError is text that is not JSON.
type syntaxError struct {
	err error
	cut bool // it ends too early
}

func (e *syntaxError) Error() string {
	if e.cut {
		return "ends in the middle: it is cut off"
	}
	return "not JSON: " + e.err.Error()
}

func (e *syntaxError) Unwrap() error { return e.err }

func badJSON(err error, at int64) error {
	var unpack *unpackError
	switch {
	case errors.As(err, &unpack):
		return err
	case errors.Is(err, io.ErrUnexpectedEOF), err == io.EOF:
		return remedied{&syntaxError{err, true}, theCommand + " once more"}
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		if strings.Contains(syntax.Error(), `'\n' in string literal`) { // no writer of JSON breaks a text: it was cut off, and a line ended
			return remedied{&syntaxError{err, true}, theCommand + " once more"}
		}
		return &syntaxError{fmt.Errorf("%w (byte %d)", err, at), false}
	}
	return err
}

// readError is an error of the file itself, not of what it says.
type readError struct{ err error }

func (e *readError) Error() string { return e.err.Error() }
func (e *readError) Unwrap() error { return e.err }

type marked struct{ r io.Reader }

func (m marked) Read(b []byte) (int, error) {
	n, err := m.r.Read(b)
	if err != nil && err != io.EOF {
		err = &readError{err}
	}
	return n, err
}

// readJSON reads any number of values, one after the other. Of a list it holds one item at a time.
func (l *list) readJSON(r io.Reader) error {
	d := json.NewDecoder(marked{r})
	for i := 0; ; i++ {
		where := ""
		if i > 0 {
			where = fmt.Sprintf("document %d", i+1)
		}
		token, err := d.Token()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			switch token {
			case json.Delim('{'):
				err = l.jsonObject(d, where)
			case json.Delim('['):
				err = l.jsonArray(d, join(where, "nodes"))
			default:
				l.wrong(where, errors.New(wanted))
			}
		}
		if err != nil {
			return badJSON(err, d.InputOffset())
		}
	}
}

// jsonObject reads the members of an object that has begun, and uses it: a list's items as they come, since what kind of list it is
// may stand behind them.
func (l *list) jsonObject(d *json.Decoder, where string) error {
	var rest bytes.Buffer // the object without its items
	rest.WriteByte('{')
	items := false
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return err
		}
		if key == "items" {
			items = true
			if err := l.jsonItems(d, join(where, "items")); err != nil {
				return err
			}
			continue
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return err
		}
		if rest.Len() > 1 {
			rest.WriteByte(',')
		}
		name, _ := json.Marshal(key)
		rest.Write(name)
		rest.WriteByte(':')
		rest.Write(value)
	}
	if _, err := d.Token(); err != nil {
		return err
	}
	rest.WriteByte('}')
	l.takeJSON(rest.Bytes(), where, items)
	return nil
}

// takeJSON uses an object by itself, or what is left of a list.
func (l *list) takeJSON(data []byte, where string, items bool) {
	var o object
	if field, err := unmarshal(data, &o); err != nil {
		l.wrong(join(where, field), err)
	}
	switch {
	case !items:
		l.take(&o, where)
	case o.Kind != "" && o.Kind != "List" && o.Kind != "NodeList" && l.lacking == nil && len(l.nodes) == 0:
		l.lacking = &o
	}
}

func (l *list) jsonItems(d *json.Decoder, where string) error {
	token, err := d.Token()
	if err != nil {
		return err
	}
	if token == nil { // null
		return nil
	}
	if token != json.Delim('[') {
		l.wrong(where, errors.New("want a list"))
		return nil
	}
	for i := 0; d.More(); i++ {
		var o object
		at := fmt.Sprintf("%s[%d]", where, i)
		err := d.Decode(&o)
		var kind *json.UnmarshalTypeError
		switch {
		case errors.As(err, &kind):
			l.wrong(join(at, kind.Field), kindError(kind))
		case err != nil && !itemOnly(err):
			return err
		case err != nil:
			l.wrong(at, err)
			continue
		}
		l.take(&o, at)
	}
	_, err = d.Token()
	return err
}

// itemOnly says whether an error is about one value, such as a time that is none, after which the decoder goes on.
func itemOnly(err error) bool {
	var syntax *json.SyntaxError
	var read *readError
	return !errors.As(err, &syntax) && !errors.Is(err, io.ErrUnexpectedEOF) && err != io.EOF && !errors.As(err, &read)
}

// jsonArray reads the short form, or what jq makes of a list's items.
func (l *list) jsonArray(d *json.Decoder, where string) error {
	for i := 0; d.More(); i++ {
		var item json.RawMessage
		if err := d.Decode(&item); err != nil {
			return err
		}
		l.takeItem(item, fmt.Sprintf("%s[%d]", where, i))
	}
	_, err := d.Token()
	return err
}

func (l *list) takeItem(item []byte, where string) {
	var k struct {
		Metadata json.RawMessage `json:"metadata"`
		Object   json.RawMessage `json:"object"`
	}
	if json.Unmarshal(item, &k) != nil || k.Metadata == nil && k.Object == nil {
		l.takeShort(item, where)
		return
	}
	var o object
	if field, err := unmarshal(item, &o); err != nil {
		l.wrong(join(where, field), err)
	}
	l.take(&o, where)
}
