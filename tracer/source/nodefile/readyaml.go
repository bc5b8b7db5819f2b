package nodefile

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"sigs.k8s.io/yaml"
)

// readYAML reads documents of YAML. A list as kubectl prints it is cut at its items, each of which is parsed by itself and without
// what is of no use here: the parser is slow, and takes ten times the memory of what it parses.
func (l *list) readYAML(in *bufio.Reader) error {
	y := yamlReader{list: l, number: 1}
	for {
		line, err := in.ReadBytes('\n')
		if len(line) > 0 {
			if bad := y.line(line); bad != nil {
				return bad
			}
		}
		if err == io.EOF {
			return y.document()
		}
		if err != nil {
			return err
		}
	}
}

// yamlReader cuts YAML by its lines.
type yamlReader struct {
	list   *list
	number int // of the document, from 1
	lines  int // read so far

	text   []byte // of the document, without its items
	listed bool   // it has items
	inside bool   // of items
	dash   int    // the column at which items begin, -1: none yet
	item   []byte
	itemAt int // its line
	items  int
	skip   int // the column of a member that is left out with all that is below it, -1: none
}

// left out: what a Node has most of. "images" is up to 50 names, "managedFields" repeats the object.
var leftOut = []string{"managedFields:", "images:", "volumesAttached:", "volumesInUse:", "allocatable:", "capacity:", "runtimeHandlers:"}

func (y *yamlReader) line(line []byte) error {
	y.lines++
	trimmed := bytes.TrimRight(line, " \t\r\n")
	switch {
	case string(trimmed) == "---" || string(trimmed) == "...":
		return y.document()
	case y.inside && (len(trimmed) == 0 || trimmed[0] == '#'):
		return nil
	case !y.inside && string(trimmed) == "items:":
		y.inside, y.listed, y.dash, y.skip = true, true, -1, -1
		return nil
	case !y.inside:
		y.text = append(y.text, line...)
		return nil
	}
	column := len(trimmed) - len(bytes.TrimLeft(trimmed, " "))
	rest := trimmed[column:]
	dashed := rest[0] == '-' && (len(rest) == 1 || rest[1] == ' ')
	switch {
	case dashed && (y.dash < 0 || column == y.dash):
		if err := y.takeItem(); err != nil {
			return err
		}
		y.dash, y.itemAt, y.skip = column, y.lines, -1
		y.item = append(y.item, trimmed...)
		y.item[column] = ' '
		y.item = append(y.item, '\n')
		return nil
	case column <= max(y.dash, 0): // the next member of the list
		if err := y.takeItem(); err != nil {
			return err
		}
		y.inside = false
		return y.line(line)
	}
	if y.skip >= 0 {
		if column > y.skip || column == y.skip && dashed {
			return nil
		}
		y.skip = -1
	}
	if rest[0] >= 'a' && rest[0] <= 'z' {
		for _, name := range leftOut {
			if string(rest) == name {
				y.skip = column
				return nil
			}
		}
	}
	y.item = append(append(y.item, trimmed...), '\n')
	return nil
}

func (y *yamlReader) where(field string) string {
	if y.number > 1 {
		return join(fmt.Sprintf("document %d", y.number), field)
	}
	return field
}

// takeItem uses the item that has been gathered.
func (y *yamlReader) takeItem() error {
	if len(y.item) == 0 {
		return nil
	}
	where := y.where(fmt.Sprintf("items[%d]", y.items))
	y.items++
	data, err := yaml.YAMLToJSON(y.item)
	y.item = y.item[:0]
	if err != nil {
		y.list.wrong(where, fmt.Errorf("not YAML (from line %d): %s", y.itemAt, yamlReason(err)))
		return nil
	}
	var o object
	if field, err := unmarshal(data, &o); err != nil {
		y.list.wrong(join(where, field), err)
	}
	y.list.take(&o, where)
	return nil
}

// document uses what is left of a document, and begins the next.
func (y *yamlReader) document() error {
	inside := y.inside
	if err := y.takeItem(); err != nil {
		return err
	}
	text, listed := y.text, y.listed
	number := y.number
	if len(bytes.TrimSpace(text)) > 0 || listed {
		defer func() { *y = yamlReader{list: y.list, number: number + 1, lines: y.lines} }()
	} else {
		return nil
	}
	data, err := yaml.YAMLToJSON(text)
	if err != nil {
		return fmt.Errorf("not YAML: %s", yamlReason(err))
	}
	data = bytes.TrimSpace(data)
	switch {
	case listed && inside && !bytes.Contains(data, []byte(`"kind"`)): // kubectl writes the kind behind the items
		return remedied{&syntaxError{errors.New("the list ends in its items"), true}, theCommand + " once more"}
	case data[0] == '{':
		y.list.takeYAMLObject(data, y.where(""), listed)
	case data[0] == '[':
		var items []json.RawMessage
		if err := json.Unmarshal(data, &items); err != nil {
			return err
		}
		for i, item := range items {
			y.list.takeItem(item, y.where(fmt.Sprintf("nodes[%d]", i)))
		}
	case string(data) == "null": // comments only
	default:
		return remedied{errors.New(wanted), theCommand}
	}
	return nil
}

// takeYAMLObject uses an object; its items, where the text did not show them as lines, are in it.
func (l *list) takeYAMLObject(data []byte, where string, listed bool) {
	var flow struct {
		Items []json.RawMessage `json:"items"`
	}
	if !listed && json.Unmarshal(data, &flow) == nil && flow.Items != nil {
		for i, item := range flow.Items {
			l.takeItem(item, join(where, fmt.Sprintf("items[%d]", i)))
		}
		listed = true
	}
	l.takeJSON(data, where, listed)
}

func yamlReason(err error) string {
	return strings.TrimPrefix(strings.TrimPrefix(err.Error(), "error converting YAML to JSON: "), "yaml: ")
}
