// Answers when cron specs fire, as robfig/cron's standard parser has it.
//
// One question per line of input, one answer per line of output:
//
//	{"spec": "0 9 * * *", "zone": "Europe/Madrid", "after": ["2024-01-01T00:00:00.5Z"]}
//	{"next": ["2024-01-01T08:00:00Z"]}
//
// "next" is "" where a spec never fires again. A spec that is refused is answered by "error".
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/robfig/cron/v3"
)

type question struct {
	Spec  string   `json:"spec"`
	Zone  string   `json:"zone"`
	After []string `json:"after"`
}

type answer struct {
	Next  []string `json:"next,omitempty"`
	Error string   `json:"error,omitempty"`
}

// parse is cron.ParseStandard, which panics when nothing follows a time zone.
func parse(spec string) (schedule cron.Schedule, err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("panic: %v", reason)
		}
	}()
	return cron.ParseStandard(spec)
}

func respond(asked question) (given answer, err error) {
	// A scheduler asks in its own location; a spec without a time zone means that one.
	zone, err := time.LoadLocation(asked.Zone)
	if err != nil {
		return given, err
	}
	schedule, err := parse(asked.Spec)
	if err != nil {
		return answer{Error: err.Error()}, nil
	}
	for _, text := range asked.After {
		moment, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			return given, err
		}
		next := ""
		if found := schedule.Next(moment.In(zone)); !found.IsZero() {
			next = found.UTC().Format(time.RFC3339Nano)
		}
		given.Next = append(given.Next, next)
	}
	return given, nil
}

func run() error {
	questions := json.NewDecoder(bufio.NewReader(os.Stdin))
	output := bufio.NewWriter(os.Stdout)
	answers := json.NewEncoder(output)
	for questions.More() {
		var asked question
		if err := questions.Decode(&asked); err != nil {
			return err
		}
		given, err := respond(asked)
		if err != nil {
			return err
		}
		if err := answers.Encode(given); err != nil {
			return err
		}
	}
	return output.Flush()
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
