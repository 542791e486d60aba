// Answers how Go writes and reads the texts that asynq's options are made of.
//
// One question per line of input, one answer per line of output:
//
//	{"do": "format duration", "of": "90000000000"}
//	{"text": "1m30s"}
//
// A text that is refused is answered by "error". Bytes that need be no text travel in hexadecimal.
package main

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

type question struct {
	Do string `json:"do"`
	Of string `json:"of"`
}

type answer struct {
	Text  string `json:"text"`
	Error string `json:"error,omitempty"`
}

func respond(do, of string) (string, error) {
	switch do {
	case "format duration":
		nanoseconds, err := strconv.ParseInt(of, 10, 64)
		return time.Duration(nanoseconds).String(), err
	case "parse duration":
		duration, err := time.ParseDuration(of)
		return strconv.FormatInt(int64(duration), 10), err
	case "quote bytes":
		text, err := hex.DecodeString(of)
		return fmt.Sprintf("%q", string(text)), err
	case "unquote":
		text, err := strconv.Unquote(of)
		return hex.EncodeToString([]byte(text)), err
	case "format date":
		moment, err := time.Parse(time.RFC3339Nano, of)
		return moment.UTC().Format(time.UnixDate), err
	case "parse date":
		moment, err := time.Parse(time.UnixDate, of)
		return moment.UTC().Format(time.RFC3339Nano), err
	case "format header":
		key, value, _ := strings.Cut(of, "=")
		text, err := json.Marshal([2]string{key, value})
		return string(text), err
	case "argument of option": // as asynq's inspector cuts it out
		from, to := strings.Index(of, "("), strings.Index(of, ")")
		if from < 0 || to < from {
			return "", errors.New("no argument")
		}
		return of[from+1 : to], nil
	case "parse header":
		var header [2]string
		err := json.Unmarshal([]byte(of), &header)
		return header[0] + "=" + header[1], err
	}
	return "", fmt.Errorf("what is %q?", do)
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
		text, err := respond(asked.Do, asked.Of)
		given := answer{Text: text}
		if err != nil {
			given = answer{Error: err.Error()}
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
