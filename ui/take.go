package ui

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/midhop/midhop/tracer/report"
	"github.com/midhop/midhop/ui/screen"
)

// copyItem puts what the cursor is on into the clipboard of the terminal, by OSC 52: so it works over ssh.
func (a *app) copyItem(asJSON bool) {
	from, ok := a.top().(screen.Exporter)
	if !ok {
		a.say("there is nothing to copy on this screen")
		return
	}
	name, text, value, ok := from.Item(&a.frame)
	if !ok {
		a.say("there is nothing to copy")
		return
	}
	as := "as text"
	if asJSON {
		as = "as JSON"
		b, err := json.MarshalIndent(value, "", "  ")
		if err != nil {
			a.say("cannot be written as JSON: " + err.Error())
			return
		}
		text = string(b) + "\n"
	}
	if len(text) > maxClip {
		a.say(fmt.Sprintf("%s has %s bytes, more than terminals take; s saves it", name, report.Count(len(text))))
		return
	}
	a.Screen.SetClipboard([]byte(text))
	a.say(fmt.Sprintf("copied %s %s, %s bytes, if the terminal allows OSC 52", name, as, report.Count(len(text))))
}

// maxClip is what terminals accept by OSC 52 with some certainty: xterm's default limit is 100,000 bytes of base64.
const maxClip = 74_000

// save writes what the screen lists as JSON, and what it shows as text, into two new files.
func (a *app) save() {
	from, ok := a.top().(screen.Exporter)
	if !ok {
		a.say("there is nothing to save on this screen")
		return
	}
	b, err := json.MarshalIndent(struct {
		Screen string `json:"screen"`
		Time   string `json:"time"`
		View   any    `json:"view"`
	}{a.crumbs(), a.frame.Now.UTC().Format("2006-01-02T15:04:05.000000000Z"), from.All(&a.frame)}, "", "  ")
	if err != nil {
		a.say("cannot be written as JSON: " + err.Error())
		return
	}
	stem, err := a.create(append(b, '\n'), a.screenshot())
	if err != nil {
		a.say("cannot save: " + err.Error())
		return
	}
	a.say("saved " + stem + ".json and .txt")
}

// create writes both files under a name that there is not yet, in the first directory that takes them.
func (a *app) create(asJSON []byte, text string) (stem string, err error) {
	name := "midhop-" + a.frame.Now.UTC().Format("20060102-150405")
	for _, dir := range a.SaveDirs {
		for n := range 100 {
			stem = filepath.Join(dir, name)
			if n > 0 {
				stem += fmt.Sprintf("-%d", n)
			}
			err = writeNew(stem+".json", asJSON)
			if os.IsExist(err) {
				continue
			}
			if err == nil {
				err = writeNew(stem+".txt", []byte(text))
			}
			if err == nil {
				a.saved = append(a.saved, stem+".json", stem+".txt")
				return stem, nil
			}
			break
		}
	}
	if err == nil {
		err = os.ErrNotExist
	}
	return "", err
}

// writeNew writes a file that only its owner may read, since it names clients; an existing one is left alone.
func writeNew(path string, data []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	return err
}

// screenshot is the screen as text, without spaces at the ends of lines.
func (a *app) screenshot() string {
	w, h := a.Screen.Size()
	var b strings.Builder
	for y := range h {
		line := ""
		for x := 0; x < w; {
			s, _, width := a.Screen.Get(x, y)
			line += s
			x += max(width, 1)
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	return b.String()
}

// crumbs is where one is: nodes > node-a > sockets.
func (a *app) crumbs() string {
	parts := make([]string, len(a.stack))
	for i, s := range a.stack {
		parts[i] = report.Clean(s.Crumb(&a.frame))
	}
	return strings.Join(parts, " > ")
}
